#!/usr/bin/env bash
# Checks job.pml and its mutants: fails unless the design holds and each mutant is caught.
#
#   tests/model/check.sh            all
#   tests/model/check.sh rescue     those whose name holds this word
#
# Needs spin (Debian: apt-get install spin) and a C compiler. JOBS=2: so many at once.
set -u
here=$(cd "$(dirname "$0")" && pwd)
for tool in spin "${CC:=cc}"; do
    command -v "$tool" >/dev/null || { echo "make model needs $tool (spin: apt-get install spin)"; exit 2; }
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
only=${1:-}
export CC

one() { # number, name, what is expected, claim (safe: assertions and invariants), flags
    local number=$1 name=$2 want=$3 claim=$4 dir=$tmp/$1 how run found got states took mark why fast
    shift 4
    mkdir "$dir" && cd "$dir" || exit 2
    how="-DNFAIR=3 -DLIVENESS" run="-a -f -N $claim"
    [ "$claim" = safe ] && how="-DNOCLAIM -DSAFETY" run=""
    fast=-O2
    [ "$want" = caught ] && fast=-O1 # it ends soon
    # shellcheck disable=SC2086
    if spin -a ${how##-DNFAIR=3 } "$@" "$here/job.pml" >spin.out 2>&1 &&
        "$CC" $fast -w $how -DVECTORSZ=1024 -DMEMLIM=4000 -o pan pan.c; then
        TIMEFORMAT=%0U
        took=$({ time ./pan $run -m1000000 >out 2>&1; } 2>&1)
    else
        cp spin.out out 2>/dev/null
    fi
    found=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' out | head -1)
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out | head -1)
    got=holds
    [ "${found:-0}" = 0 ] || got=caught
    if [ -z "$found" ] || grep -q 'max search depth too small\|out of memory\|memory limit' out; then got=broken; fi
    mark=" "
    [ "$got" = "$want" ] || { mark="!"; touch "$tmp/failed"; [ "$got" = broken ] && head -20 out >&2; }
    why=$(grep '^pan:1:' out | grep -o 'an_end_is_final\|no_effect_twice\|a_zombie_writes_nothing\|enough_places\|succeeded_is_the_effect\|named_by_one_row\|robbed\|back_again\|acceptance cycle' | head -1)
    [ "$why" = enough_places ] && { mark="!"; touch "$tmp/failed"; } # a fault of the model
    printf '%s %-60s %-5s %-6s %8s states %3s s  %s\n' "$mark" "$name" "$claim" "$got" "${states:-?}" "${took:-?}" "$why"
    cd "$tmp" && rm -rf "$dir"
}

number=0
check() {
    case $1 in *"$only"*) ;; *) return ;; esac
    number=$((number + 1))
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-1}" ]; do wait -n; done
    one "$number" "$@" &
}
holds() { local name=$1; shift; check "$name" holds "$@"; }
mutant() { local name=$1; shift; check "mutant: $name" caught "$@"; }

holds "two faults" safe -DFAULTS=2 -DCANCELS=0
holds "one fault, and somebody cancels" safe -DFAULTS=1
holds "three claims of one job, three faults" safe -DFAULTS=3 -DMAXTOK=3 -DONEJOB
holds "effects outside of the database, one fault" safe -DFAULTS=1 -DCANCELS=0 -DOUTSIDE
holds "each job ends, no lease row stays" live -DFAULTS=1 -DCANCELS=0
holds "a job ends beside one that never does" first -DFAULTS=1 -DCANCELS=0 -DENDLESS
holds "a zombie is told" told -DFAULTS=1 -DCANCELS=0 -DENDLESS

mutant "the fence is id and state, without the token" safe -DFAULTS=1 -DCANCELS=0 -DGUARD=1
mutant "the fence is the id" safe -DFAULTS=1 -DCANCELS=0 -DGUARD=0
mutant "claim by SELECT, then UPDATE by id" safe -DFAULTS=1 -DCANCELS=0 -DSELECTFIRST
mutant "claim of jobs and lease row in two transactions" live -DFAULTS=1 -DCANCELS=0 -DTWOCOMMITS
mutant "after a lost COMMIT the end is written by id" safe -DFAULTS=1 -DCANCELS=0 -DBLINDFAIL
mutant "no rescue" live -DFAULTS=1 -DCANCELS=0 -DNORESCUE
mutant "rescue writes by id what it has read before" safe -DFAULTS=1 -DCANCELS=0 -DSTALERESCUE
mutant "rescue gives the token back" safe -DFAULTS=1 -DCANCELS=0 -DTOKENBACK
mutant "rescue without the token of the list" safe -DFAULTS=1 -DCANCELS=0 -DNOTOKEN
mutant "rescue does not hold the lease row" safe -DFAULTS=1 -DCANCELS=0 -DNOHOLD
mutant "rescue deletes a row although it skipped a job" safe -DFAULTS=1 -DCANCELS=0 -DDELETESKIPPED
mutant "rescue deletes a row although it skipped, in the end" live -DFAULTS=1 -DCANCELS=0 -DDELETESKIPPED
mutant "rescue judges a row by an older read of the jobs" safe -DFAULTS=1 -DCANCELS=0 -DSTALEJUDGE
mutant "a lease for each worker, not for each claim" live -DFAULTS=1 -DCANCELS=0 -DLEASEBYWORKER
mutant "owner deletes a row when its known runs are over" safe -DFAULTS=1 -DCANCELS=0 -DKNOWNRUNS
mutant "owner deletes by known runs, in the end" live -DFAULTS=1 -DCANCELS=0 -DKNOWNRUNS
mutant "owner counts a job as over before COMMIT is answered" safe -DFAULTS=1 -DCANCELS=0 -DEARLYCONFIRM
mutant "owner counts a job as over when no answer comes" safe -DFAULTS=1 -DCANCELS=0 -DDOUBTISOVER
mutant "owner keeps a job of a renewed row without a run of it" first -DFAULTS=1 -DCANCELS=0 -DENDLESS -DKEEPFORGOTTEN
mutant "renewal inserts a row that is gone" safe -DFAULTS=1 -DCANCELS=0 -DREINSERT
mutant "renewal does not read the jobs" told -DFAULTS=1 -DCANCELS=0 -DENDLESS -DNOREAD
wait
if [ -e "$tmp/failed" ]; then echo "The model does not hold, or a mutant was not caught: see the lines with !"; exit 1; fi
echo "The design holds, and each mutant is caught."
