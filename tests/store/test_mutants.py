"""Each guard is watched by a test: take the guard away, and the test must fail."""

import inspect
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import Phase

from aftercommit.values import Released, Retry, Succeeded
from tests.store import (
    fair_mutants,
    grant_mutants,
    graph_mutants,
    limit_mutants,
    mutants,
    queue_mutants,
    rate_mutants,
    schedule_mutants,
    test_cancel,
    test_claim,
    test_clock,
    test_declared_schedules,
    test_enqueue,
    test_fair,
    test_finish,
    test_free_slots,
    test_graphs,
    test_leases,
    test_limits,
    test_needed_while_running,
    test_prune,
    test_queue_limits,
    test_rates,
    test_renew,
    test_rescue,
    test_retry,
    test_schedules,
    test_schedules_of_tasks,
    test_selecting,
    test_sqlite,
    test_stateful,
    test_unique_keys,
    test_unique_rules,
    test_unique_storm,
)
from tests.store.given import ERROR, insert_alike
from tests.store.mutants import Weaken
from tests.store.schedules import failed, ready, rescued, running, taken_over
from tests.tables import wipe

EVERYWHERE = ("postgresql", "mysql", "sqlite")
SERVERS = ("postgresql", "mysql")
# What these weaken counts where a claim decides about each job.
ONE_BY_ONE = (fair_mutants.__name__, limit_mutants.__name__, rate_mutants.__name__)
MISTAKES = (AttributeError, NameError, TypeError)

# The schedules' fixture; the others may keep theirs.
caller = test_schedules.caller
plain_begin = test_sqlite.plain_begin
attempts_table = test_rescue.attempts_table
standing_still = test_claim.standing_still
before_slots_are_given = test_free_slots.before_slots_are_given
answer_lost = test_enqueue.answer_lost


@dataclass(frozen=True, slots=True)
class Killer:
    """A test, with what it is given beside its fixtures."""

    test: Any
    given: dict[str, Any]

    def run(self, request: pytest.FixtureRequest) -> None:
        """Run the test as pytest would."""
        names = inspect.signature(self.test).parameters
        store = request.getfixturevalue("store")
        values = {
            name: self.given[name] if name in self.given else request.getfixturevalue(name)
            for name in names
            if name in self.given or names[name].default is inspect.Parameter.empty
        }
        if values.get("finish") is BY_STORE:
            values["finish"] = store.finish
        self.test(**values)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A guard taken away, and the tests that notice."""

    weaken: Weaken
    killers: tuple[Killer, ...]
    vendors: tuple[str, ...] = EVERYWHERE

    def __str__(self) -> str:
        return self.weaken.__name__


BY_STORE = object()  # the fixture ``finish``, in its plain form


def by(test: Any, **given: Any) -> Killer:
    """Name a test as a killer."""
    return Killer(test, given)


def pairs(make: Any, outer: str, *inners: str) -> Killer:
    """Name schedules of a transition and others as a killer."""
    return by(test_schedules.check_pairs, make=make, outer=outer, inners=inners)


def zombie(make: Any, name: str, *others: str) -> Killer:
    """Name schedules of a zombie as a killer."""
    return by(test_schedules.check_zombie, make=make, zombie=name, others=others)


STORM = {"isolation": "READ COMMITTED", "callers": 4, "keys": 8}
CALLERS_ALONE = by(
    test_unique_storm.test_however_many_want_a_key_one_of_them_gets_it_and_all_know, **STORM
)
BESIDE_RETRIES = by(
    test_unique_storm.test_retries_and_rescues_double_no_key, until_started=False, **STORM
)
LATE = by(
    test_finish.test_a_late_worker_cannot_overwrite_the_one_that_took_over,
    finish=BY_STORE,
    outcome=Succeeded(),
)
RESCUED = by(
    test_finish.test_a_worker_that_was_rescued_cannot_write_although_nobody_took_over,
    finish=BY_STORE,
    outcome=Retry(ERROR),
)
FIRST_LIFE = by(
    test_retry.test_the_token_goes_on_counting_so_a_zombie_of_the_first_life_stays_fenced
)
LOST_ANSWER = by(
    test_enqueue.test_a_job_is_enqueued_once_although_the_answer_was_lost, unique_key=None
)
TOO_LATE = by(test_finish.test_of_many_good_ends_those_that_come_too_late_change_nothing)
LOST_BUT_LEASED = by(test_renew.test_a_job_that_was_rescued_is_lost_although_its_lease_goes_on)
NAMES_EACH_JOB = by(
    test_leases.test_a_claim_writes_one_lease_that_names_each_job_with_its_token,
)
OVER = by(test_rescue.test_a_job_whose_lease_is_over_is_ready_again_at_its_old_place)
ANY_STEPS = by(test_stateful.test_rows_are_as_modelled_after_any_steps, phases=[Phase.generate])
AS_MANY = by(
    test_limits.test_as_many_as_the_limit_says_get_slots_and_the_others_are_parked,
)
STARTS_IN_TIME = by(test_rates.test_one_more_starts_each_interval)
MUTANTS = [
    Mutant(
        fair_mutants.each_claim_begins_with_the_first_key,
        (
            by(test_fair.test_a_claim_of_one_goes_from_key_to_key),
            by(test_fair.test_no_key_starves_while_others_are_filled_up),
            by(test_fair.test_ten_jobs_beside_very_many_wait_for_ten_at_most, limit=1),
        ),
    ),
    Mutant(
        fair_mutants.the_first_keys_get_more_each_time,
        (by(test_fair.test_in_the_long_run_each_key_gets_as_much_as_any_other, keys=2, limit=3),),
    ),
    Mutant(
        fair_mutants.the_last_key_is_the_end,
        (by(test_fair.test_a_claim_of_one_goes_from_key_to_key),),
    ),
    Mutant(
        fair_mutants.the_first_key_gets_all,
        (by(test_fair.test_each_key_gives_its_share),),
    ),
    Mutant(
        fair_mutants.jobs_come_line_by_line,
        (by(test_fair.test_a_claim_has_the_first_of_each_key_then_the_second),),
    ),
    Mutant(
        fair_mutants.priorities_do_not_count,
        (by(test_fair.test_the_jobs_of_a_key_come_by_priority_and_time),),
    ),
    Mutant(
        fair_mutants.due_jobs_join_no_line,
        (
            by(test_fair.test_jobs_for_later_join_when_they_are_due_and_the_others_are_claimed),
            by(test_fair.test_a_job_that_is_retried_by_hand_joins_its_line_again),
        ),
    ),
    Mutant(
        fair_mutants.a_line_keeps_the_key_of_the_old_queue,
        (by(test_fair.test_a_job_that_was_moved_joins_a_line_of_its_new_queue),),
    ),
    Mutant(
        fair_mutants.the_limit_is_no_gate,
        (by(test_fair.test_a_closed_limit_leaves_jobs_in_their_line),),
    ),
    Mutant(
        fair_mutants.rounds_end_at_the_last_key_with_a_slot,
        (by(test_fair.test_one_limit_of_all_tenants_is_shared_in_turn),),
    ),
    Mutant(
        fair_mutants.closed_lines_are_looked_at_few_at_a_time,
        (by(test_fair.test_lines_whose_limits_are_closed_hide_no_other, closed=30),),
    ),
    Mutant(
        fair_mutants.what_others_have_ended_stays,
        (by(test_fair.test_what_an_older_program_has_ended_leaves_the_line),),
    ),
    Mutant(
        limit_mutants.keys_are_not_locked,
        (by(test_rates.test_a_key_that_somebody_has_locked_is_left_alone),),
        SERVERS,
    ),
    Mutant(
        schedule_mutants.ticks_are_not_unique,
        (by(test_schedules_of_tasks.test_a_moment_is_not_made_again_when_the_clock_goes_back),),
    ),
    Mutant(
        schedule_mutants.the_next_moment_counts_from_now,
        (by(test_schedules_of_tasks.test_of_missed_moments_the_last_one_is_made_up_for),),
    ),
    Mutant(
        schedule_mutants.others_make_ticks_of_what_they_do_not_declare,
        (
            by(test_schedules_of_tasks.test_only_who_declares_a_schedule_makes_its_jobs),
            by(test_declared_schedules.test_the_old_version_makes_no_ticks_of_what_has_changed),
        ),
    ),
    Mutant(
        schedule_mutants.whoever_starts_last_declares,
        (by(test_declared_schedules.test_a_worker_of_the_old_version_undoes_nothing),),
    ),
    Mutant(
        schedule_mutants.edits_are_lost,
        (by(test_declared_schedules.test_an_edit_is_kept_by_deploys_and_can_be_taken_back),),
    ),
    Mutant(
        graph_mutants.other_edges_are_not_looked_at,
        (by(test_graphs.test_the_end_of_the_last_one_that_it_needs_frees_it),),
    ),
    Mutant(
        graph_mutants.nobody_looks_again,
        (by(test_graphs.test_of_two_ends_that_do_not_see_each_other_the_later_one_frees),),
        vendors=SERVERS,
    ),
    Mutant(
        graph_mutants.the_sweep_does_nothing,
        (by(test_graphs.test_the_sweep_finds_the_end_that_a_program_without_edges_has_written),),
    ),
    Mutant(
        graph_mutants.rows_may_go_before_the_commit,
        (by(test_needed_while_running.test_of_a_batch_only_the_needed_ones_stay),),
        vendors=SERVERS,
    ),
    Mutant(
        graph_mutants.ends_wait_for_those_who_keep_rows,
        (
            by(
                test_needed_while_running.test_an_end_that_fails_waits_for_no_caller_and_holds_up_no_other_end
            ),
            by(test_needed_while_running.test_a_rescue_that_fails_a_job_waits_for_no_caller),
        ),
        ("mysql",),
    ),
    Mutant(
        graph_mutants.a_holder_that_goes_is_missing,
        (
            by(
                test_needed_while_running.test_a_holder_that_goes_before_it_is_kept_is_replaced_by_the_call,
                of_the_caller=False,
            ),
        ),
        SERVERS,
    ),
    Mutant(
        graph_mutants.the_end_looks_for_no_edges,
        (
            by(
                test_needed_while_running.test_one_that_ends_right_after_the_commit_stays,
                together=False,
            ),
        ),
        vendors=SERVERS,
    ),
    Mutant(
        graph_mutants.who_enqueues_does_not_look_again,
        (by(test_graphs.test_a_job_can_wait_for_one_that_is_running),),
    ),
    Mutant(
        graph_mutants.an_end_frees_after_its_commit,
        (by(test_graphs.test_the_end_and_what_it_frees_are_one_commit),),
    ),
    Mutant(graph_mutants.results_are_lost, (by(test_graphs.test_results_go_to_their_places),)),
    Mutant(
        rate_mutants.rates_are_not_asked,
        (by(test_rates.test_the_burst_starts_at_once_and_the_others_are_parked), STARTS_IN_TIME),
    ),
    Mutant(
        rate_mutants.tokens_are_not_written,
        (
            by(test_rates.test_a_claim_takes_as_many_tokens_as_it_gets_jobs),
            by(test_rates.test_many_workers_keep_the_rate_of_each_key_in_every_window),
            STARTS_IN_TIME,
        ),
    ),
    Mutant(
        rate_mutants.tokens_are_taken_for_all_that_may_start,
        (by(test_rates.test_a_claim_takes_as_many_tokens_as_it_gets_jobs),),
    ),
    Mutant(rate_mutants.the_claimer_has_the_clock, (STARTS_IN_TIME,)),
    Mutant(
        rate_mutants.a_pause_is_no_obstacle,
        (by(test_rates.test_a_paused_key_starts_nothing_until_then, until=test_rates.HOUR),),
    ),
    Mutant(
        rate_mutants.a_new_job_passes_the_line,
        (by(test_rates.test_a_new_job_does_not_start_before_one_that_was_parked),),
    ),
    Mutant(
        rate_mutants.what_is_too_far_ahead_stays,
        (
            by(test_rates.test_a_higher_rate_takes_effect_at_once),
            by(test_rates.test_a_clock_that_was_set_back_costs_one_burst_at_most),
        ),
    ),
    Mutant(
        rate_mutants.what_older_programs_have_changed_stays_in_line,
        (by(test_rates.test_what_older_programs_leave_in_a_line_is_taken_out),),
    ),
    Mutant(
        rate_mutants.lines_are_as_long_as_the_first_priority,
        (by(test_rates.test_the_most_urgent_are_let_through_first_whatever_their_number),),
    ),
    Mutant(
        rate_mutants.a_queue_claims_more_than_may_start,
        (by(test_rates.test_a_claim_takes_as_many_of_a_queue_as_may_start),),
    ),
    Mutant(
        limit_mutants.keys_are_not_locked,
        (by(test_rates.test_a_queue_that_somebody_claims_from_is_asked_again_soon),),
        SERVERS,
    ),
    Mutant(
        rate_mutants.the_burst_is_as_large_as_you_like,
        (
            by(test_rates.test_many_workers_keep_the_rate_of_each_key_in_every_window),
            STARTS_IN_TIME,
        ),
    ),
    Mutant(
        queue_mutants.keys_of_queues_are_not_locked,
        (by(test_queue_limits.test_who_meets_a_locked_key_claims_nothing_and_does_not_wait),),
        SERVERS,
    ),
    Mutant(
        queue_mutants.slots_are_of_jobs_whatever_the_token,
        (by(test_queue_limits.test_an_old_place_of_a_job_that_runs_again_is_no_place),),
    ),
    Mutant(
        queue_mutants.slots_are_taken_whatever_the_state,
        (
            by(
                test_queue_limits.test_each_end_of_a_run_frees_its_place_by_the_same_write,
                outcome=Succeeded(),
            ),
            by(test_queue_limits.test_the_limit_may_change_in_both_directions),
        ),
    ),
    Mutant(
        queue_mutants.a_claim_takes_more_than_are_free,
        (
            by(
                test_queue_limits.test_as_many_jobs_are_claimed_as_the_limit_says_and_the_others_stay
            ),
        ),
    ),
    Mutant(
        queue_mutants.slots_are_not_written,
        (
            by(
                test_queue_limits.test_as_many_jobs_are_claimed_as_the_limit_says_and_the_others_stay
            ),
            by(test_queue_limits.test_each_way_of_claiming_keeps_the_limit),
        ),
    ),
    Mutant(
        queue_mutants.slots_beyond_the_limit_stay,
        (by(test_queue_limits.test_slots_beyond_the_limit_are_forgotten),),
    ),
    Mutant(
        queue_mutants.jobs_without_a_key_are_free,
        (
            by(test_queue_limits.test_jobs_of_a_task_that_is_limited_at_run_time_get_its_key),
            by(
                test_queue_limits.test_they_are_met_wherever_they_are,
                limit=2,
                limited_first=False,
            ),
        ),
    ),
    Mutant(
        queue_mutants.the_key_of_a_task_is_not_written,
        (by(test_queue_limits.test_jobs_of_a_task_that_is_limited_at_run_time_get_its_key),),
    ),
    Mutant(
        queue_mutants.keys_are_given_without_their_lock,
        (by(test_queue_limits.test_who_meets_a_locked_key_leaves_them_and_claims_others),),
        SERVERS,
    ),
    Mutant(
        queue_mutants.keys_are_released_before_the_commit,
        (by(test_queue_limits.test_all_keys_are_held_until_the_claims_can_be_seen),),
        ("mysql",),
    ),
    Mutant(
        mutants.fence_without_token,
        (
            LATE,
            LOST_BUT_LEASED,
            zombie(taken_over, "T4 retry after an error", "T1 claim"),
            zombie(taken_over, "T2 renew", "T6 rescue"),
        ),
    ),
    Mutant(
        mutants.fence_without_state,
        (RESCUED, LOST_BUT_LEASED, zombie(rescued, "T3 succeed", "T8 cancel")),
    ),
    Mutant(
        mutants.no_fence,
        (
            ANY_STEPS,
            LATE,
            RESCUED,
            pairs(running, "T6 rescue", "T3 succeed"),
            zombie(taken_over, "T5 fail", "T2 renew"),
        ),
    ),
    Mutant(
        mutants.renew_without_a_lease,
        (by(test_renew.test_the_jobs_of_a_lease_that_is_gone_are_lost),),
    ),
    Mutant(mutants.good_ends_without_token, (TOO_LATE,), ("postgresql", "sqlite")),
    Mutant(mutants.good_ends_without_state, (TOO_LATE,)),
    Mutant(
        mutants.rescue_gives_the_token_back,
        (
            by(test_claim.test_the_token_rises_by_one_at_each_claim_whatever_happens_between),
            LATE,
            pairs(running, "T6 rescue", "T1 claim"),
        ),
    ),
    Mutant(
        mutants.release_gives_the_token_back,
        (
            ANY_STEPS,
            by(test_claim.test_the_token_rises_by_one_at_each_claim_whatever_happens_between),
            pairs(running, "T7 release", "T1 claim"),
        ),
    ),
    Mutant(
        mutants.save_instead_of_update,
        (pairs(running, "T3 succeed", "T6 rescue"), pairs(running, "T7 release", "T8 cancel")),
    ),
    Mutant(
        mutants.nobody_counts_rows, (LATE, RESCUED, zombie(taken_over, "T7 release", "T1 claim"))
    ),
    Mutant(
        mutants.a_request_is_forgotten,
        (
            by(
                test_finish.test_a_job_that_shall_end_is_not_ready_again,
                finish=BY_STORE,
                outcome=Released(),
            ),
        ),
    ),
    Mutant(
        mutants.told_as_asked,
        (
            by(
                test_finish.test_the_answer_is_the_state_that_was_written,
                finish=BY_STORE,
                outcome=Retry(ERROR),
                requested=True,
            ),
            by(
                test_finish.test_of_many_runs_those_are_answered_that_were_written_each_with_its_state
            ),
        ),
    ),
    Mutant(
        mutants.error_without_release_of_the_key,
        (by(test_unique_keys.test_a_job_that_runs_again_keeps_its_key, outcome=Retry(ERROR)),),
    ),
    Mutant(
        mutants.endings_keep_nothing,
        (
            by(
                test_finish.test_a_released_run_does_not_count_and_keeps_its_place,
                finish=BY_STORE,
            ),
        ),
    ),
    Mutant(
        mutants.claim_waits,
        (by(test_claim.test_a_claimer_passes_over_a_job_that_someone_else_is_claiming),),
        SERVERS,
    ),
    Mutant(
        mutants.claim_is_select_then_update, (pairs(ready, "T1 claim", "T1 claim", "T8 cancel"),)
    ),
    Mutant(
        mutants.claim_locks_the_whole_row,
        (by(test_rescue.test_a_job_that_an_open_transaction_points_at_goes_its_way),),
        ("postgresql",),
    ),
    Mutant(
        mutants.claim_as_the_session_is,
        (by(test_claim.test_claims_are_read_committed_where_sessions_are_repeatable_read),),
        ("mysql",),
    ),
    Mutant(
        mutants.claim_whatever_has_the_flag,
        (
            by(
                test_claim.test_a_row_that_version_0_1_left_with_the_flag_of_a_claimable_job_is_not_claimed
            ),
        ),
    ),
    Mutant(
        mutants.claim_in_any_order_of_backends,
        (
            by(
                test_claim.test_within_a_priority_the_backends_come_in_the_order_in_which_they_are_named
            ),
            by(test_claim.test_a_batch_holds_the_most_urgent_of_several_priorities_and_backends),
        ),
    ),
    Mutant(mutants.claim_without_a_lease, (NAMES_EACH_JOB, OVER)),
    Mutant(mutants.lease_with_the_token_before, (NAMES_EACH_JOB, OVER)),
    Mutant(mutants.lease_of_one_job_only, (NAMES_EACH_JOB,)),
    Mutant(
        mutants.ended_leases_stay,
        (
            by(test_leases.test_leases_that_ended_are_deleted_with_the_next_claim),
            by(
                test_leases.test_leases_that_ended_are_deleted_although_nothing_is_claimed,
                given={},
            ),
            by(test_leases.test_leases_can_be_ended_without_a_claim),
        ),
    ),
    Mutant(
        mutants.ended_leases_are_waited_for,
        (
            by(
                test_leases.test_a_lease_that_someone_holds_is_left_and_not_waited_for,
                how="claim",
            ),
            by(
                test_leases.test_a_lease_that_someone_holds_is_left_and_not_waited_for,
                how="end_leases",
            ),
        ),
        SERVERS,
    ),
    Mutant(
        mutants.the_clock_of_the_transaction,
        (by(test_clock.test_time_does_not_stand_still_inside_a_transaction),),
        ("postgresql",),
    ),
    Mutant(
        mutants.rescue_from_a_stale_read,
        (
            by(test_rescue.test_a_healthy_run_that_renews_or_ends_just_now_is_left_alone),
            by(test_rescue.test_two_rescuers_count_a_crash_once),
            pairs(running, "T6 rescue", "T3 succeed", "T2 renew"),
        ),
    ),
    Mutant(
        mutants.rescue_without_a_second_look,
        (
            by(test_rescue.test_a_healthy_run_that_renews_or_ends_just_now_is_left_alone),
            pairs(running, "T6 rescue", "T2 renew"),
        ),
    ),
    Mutant(
        mutants.rescue_whatever_the_token,
        (
            by(
                test_rescue.test_a_job_that_someone_else_has_claimed_is_not_taken_with_its_old_lease
            ),
        ),
    ),
    Mutant(
        mutants.rescue_by_an_old_token,
        (by(test_rescue.test_a_job_that_changes_hands_just_now_is_not_taken),),
        SERVERS,
    ),
    Mutant(
        mutants.rescue_without_the_lease,
        (by(test_renew.test_a_renewal_does_not_overtake_a_rescuer),),
        SERVERS,
    ),
    Mutant(
        mutants.rescue_deletes_every_lease,
        (by(test_rescue.test_a_lease_is_deleted_with_the_last_of_its_jobs),),
    ),
    Mutant(
        mutants.rescue_deletes_every_lease,
        (by(test_rescue.test_a_lease_stays_while_a_job_of_it_is_in_someones_transaction),),
        SERVERS,
    ),
    Mutant(
        mutants.rescue_keeps_every_lease,
        (
            by(test_rescue.test_a_lease_is_deleted_with_the_last_of_its_jobs),
            by(test_leases.test_a_lease_that_was_not_ended_is_deleted_when_it_is_over),
        ),
    ),
    Mutant(
        mutants.rescue_in_any_order,
        (by(test_rescue.test_one_call_rescues_no_more_than_its_limit_the_longest_lost_first),),
    ),
    Mutant(
        mutants.jobs_of_the_version_before_are_forgotten,
        (
            by(test_rescue.test_jobs_that_version_0_1_has_claimed_are_rescued, how="silent"),
            by(test_rescue.test_jobs_that_version_0_1_has_claimed_are_rescued, how="dead"),
        ),
    ),
    Mutant(
        mutants.every_death_is_blamed,
        (
            by(test_rescue.test_deaths_that_nobody_is_blamed_for_are_forgiven_much_longer),
            by(test_rescue.test_blame_for_one_job_is_none_for_its_neighbours),
        ),
    ),
    Mutant(
        mutants.no_death_is_blamed,
        (by(test_rescue.test_a_job_that_kills_its_process_again_and_again_is_given_up),),
    ),
    Mutant(
        mutants.blame_outlasts_a_retry,
        (by(test_rescue.test_a_retry_by_hand_forgives_everything),),
    ),
    Mutant(
        mutants.rescue_waits,
        (by(test_rescue.test_rows_in_hanging_transactions_do_not_hide_those_behind_them),),
        SERVERS,
    ),
    Mutant(
        mutants.rescue_locks_the_whole_row,
        (by(test_rescue.test_a_job_that_a_hanging_transaction_points_at_is_rescued),),
        ("postgresql",),
    ),
    Mutant(
        mutants.renew_waits,
        (by(test_renew.test_a_lease_in_someones_transaction_does_not_cost_the_other_leases),),
        SERVERS,
    ),
    Mutant(
        mutants.plain_begin,
        (
            by(
                test_sqlite.test_a_transaction_of_ours_that_reads_first_is_not_refused_when_others_write
            ),
            pairs(running, "T6 rescue", "T2 renew"),
        ),
        ("sqlite",),
    ),
    Mutant(
        mutants.any_index_will_do,
        (by(test_cancel.test_jobs_of_others_are_not_waited_for),),
        ("mysql",),
    ),
    Mutant(mutants.repeated_as_if_new, (LOST_ANSWER,), SERVERS),
    Mutant(
        mutants.repeated_alike_as_if_new,
        (
            by(
                test_enqueue.test_many_jobs_are_enqueued_once_although_the_answer_was_lost,
                insert=insert_alike,
            ),
        ),
        ("postgresql",),
    ),
    Mutant(
        mutants.repeated_in_manual_transactions,
        (by(test_enqueue.test_in_manual_transactions_a_lost_answer_is_the_callers_to_handle),),
        SERVERS,
    ),
    Mutant(
        mutants.a_holder_may_start_early,
        (
            by(
                test_unique_keys.test_a_holder_starts_only_after_everyone_who_counts_on_it_has_committed
            ),
        ),
        SERVERS,
    ),
    Mutant(
        mutants.a_running_holder_is_locked,
        (
            by(
                test_unique_keys.test_a_running_holder_can_be_renewed_and_finished_while_someone_counts_on_it
            ),
        ),
        SERVERS,
    ),
    Mutant(
        mutants.a_holder_is_changed_unlocked,
        (
            by(
                test_unique_rules.test_between_the_look_at_a_holder_and_its_change_no_worker_starts_it
            ),
        ),
        SERVERS,
    ),
    Mutant(
        mutants.a_holder_is_changed_although_it_has_started,
        (
            by(
                test_unique_rules.test_a_call_that_waits_for_the_start_of_the_holder_does_not_change_what_runs,
                rule=test_unique_rules.REPLACE,
                until_started=False,
            ),
        ),
    ),
    Mutant(
        mutants.one_try_at_a_key,
        (by(test_unique_rules.test_a_holder_that_cannot_be_changed_any_more_is_met_again),),
        ("postgresql", "sqlite"),  # MySQL has looked once before
    ),
    Mutant(mutants.told_without_a_row, (CALLERS_ALONE,), SERVERS),
    Mutant(
        mutants.a_clash_is_an_error,
        (by(test_retry.test_a_job_whose_key_is_taken_is_reported_and_the_others_are_ready),),
    ),
    Mutant(mutants.retry_without_its_key, (BESIDE_RETRIES, ANY_STEPS)),
    Mutant(
        mutants.an_own_job_is_another,
        (by(test_unique_rules.test_after_a_lost_answer_the_same_job_is_no_conflict),),
    ),
    Mutant(
        mutants.cancel_running_as_if_ready,
        (
            by(test_cancel.test_a_running_job_is_asked_to_end_and_goes_on_until_it_does),
            by(test_cancel.test_each_of_many_jobs_gets_its_own_answer),
        ),
    ),
    Mutant(
        mutants.cancel_without_a_lock,
        (by(test_cancel.test_a_job_that_is_released_just_now_does_not_slip_through),),
        SERVERS,
    ),
    Mutant(
        mutants.retry_whatever_its_state,
        (by(test_retry.test_jobs_that_are_ready_running_or_done_are_left_alone), ANY_STEPS),
    ),
    Mutant(mutants.retry_from_the_first_token, (FIRST_LIFE,)),
    Mutant(
        mutants.select_by_id,
        (
            by(
                test_selecting.test_a_job_that_starts_just_now_is_not_cancelled_when_only_ready_ones_are_wanted
            ),
        ),
    ),
    Mutant(
        mutants.change_what_is_running,
        tuple(
            by(test_selecting.test_a_job_that_starts_just_now_stays_where_it_is, change=one)
            for one in ("move", "reprioritise")
        ),
    ),
    Mutant(
        mutants.delete_what_goes_on,
        (by(test_selecting.test_only_finished_jobs_are_deleted),),
    ),
    Mutant(
        mutants.retry_as_found,
        (
            by(test_retry.test_jobs_that_are_ready_running_or_done_are_left_alone),
            by(
                test_selecting.test_a_job_that_somebody_else_retries_just_now_is_not_retried_twice,
            ),
        ),
    ),
    Mutant(
        mutants.prune_by_id,
        (
            by(test_prune.test_a_job_that_someone_makes_ready_meanwhile_is_kept),
            pairs(failed, "T10 prune", "T9 retry by hand"),
        ),
    ),
    Mutant(mutants.prune_unfinished, (by(test_prune.test_unfinished_jobs_are_never_deleted),)),
    Mutant(
        mutants.the_clock_of_the_session,
        (
            by(
                test_clock.test_what_is_due_is_due_in_any_session_zone,
            ),
        ),
        ("mysql",),
    ),
    Mutant(
        mutants.leases_by_the_clock_of_the_session,
        (by(test_clock.test_leases_and_ages_are_measured_in_any_session_zone),),
        ("mysql",),
    ),
    Mutant(
        grant_mutants.keys_of_others_are_taken_for_free,
        (by(test_limits.test_a_key_that_somebody_has_locked_is_left_alone),),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.slots_in_use_are_free,
        (by(test_free_slots.test_a_lower_limit_counts_slots_above_it),),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.slots_are_numbered_anew,
        (
            by(test_free_slots.test_free_slots_are_filled_up_and_none_is_given_twice),
            by(test_free_slots.test_many_slots_of_one_key_are_given_out_between_those_in_use),
        ),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.lines_are_no_obstacle,
        (
            by(test_limits.test_a_parked_job_passes_before_one_that_is_new),
            by(test_free_slots.test_a_line_that_has_formed_since_the_keys_were_read_comes_first),
        ),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.ordered_keys_are_as_all_others,
        (
            by(
                test_free_slots.test_ordered_jobs_are_parked_also_if_all_threads_are_busy,
            ),
        ),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.tokens_are_not_charged,
        (by(test_free_slots.test_tokens_are_taken_as_the_algorithm_says),),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.locked_jobs_are_charged,
        (by(test_free_slots.test_a_job_that_is_locked_and_not_claimed_takes_no_token),),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.tokens_last_for_ever,
        (by(test_free_slots.test_no_more_start_than_there_are_tokens_and_the_others_are_parked),),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.pauses_are_no_obstacle,
        (by(test_rates.test_a_paused_key_starts_nothing_until_then, until=test_rates.HOUR),),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.nobody_hears_of_jobs_without_a_token,
        (by(test_free_slots.test_no_more_start_than_there_are_tokens_and_the_others_are_parked),),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.all_are_parked,
        (by(test_free_slots.test_with_busy_threads_jobs_without_a_slot_stay_where_they_are),),
    ),
    Mutant(
        grant_mutants.none_is_parked,
        (
            by(
                test_free_slots.test_with_idle_threads_they_are_parked_and_those_behind_them_are_claimed
            ),
        ),
    ),
    Mutant(
        grant_mutants.nobody_says_that_they_park,
        (
            by(
                test_free_slots.test_the_end_of_a_run_is_looked_at_again_while_somebody_is_about_to_park
            ),
        ),
        ("postgresql",),
    ),
    Mutant(
        grant_mutants.what_is_behind_is_not_looked_at,
        (by(test_free_slots.test_a_claim_looks_at_all_before_it_parks_for_an_idle_thread),),
    ),
    Mutant(
        limit_mutants.keys_are_not_locked,
        (by(test_limits.test_a_key_that_somebody_has_locked_is_left_alone),),
        SERVERS,
    ),
    Mutant(
        limit_mutants.keys_in_use_are_looked_at,
        (by(test_limits.test_a_key_that_somebody_has_locked_is_left_alone),),
        SERVERS,
    ),
    Mutant(
        limit_mutants.nobody_steps_over_locked_keys,
        (
            by(
                test_limits.test_jobs_behind_those_of_keys_that_others_have_locked_are_claimed,
                limited_first=True,
            ),
        ),
        SERVERS,
    ),
    Mutant(
        limit_mutants.any_key_of_a_candidate_will_do,
        (by(test_limits.test_a_job_that_gets_another_key_between_the_look_and_the_lock_is_left),),
        SERVERS,
    ),
    Mutant(limit_mutants.a_limit_is_no_obstacle, (AS_MANY, ANY_STEPS)),
    Mutant(limit_mutants.limits_are_forgotten, (AS_MANY,)),
    Mutant(limit_mutants.jobs_without_a_slot_stay_claimable, (AS_MANY,)),
    Mutant(
        limit_mutants.slots_in_use_are_not_counted,
        (by(test_limits.test_a_lower_limit_lets_nobody_pass_until_enough_have_ended),),
    ),
    Mutant(
        limit_mutants.jobs_let_through_are_not_counted,
        (by(test_limits.test_no_more_pass_than_there_are_slots_for),),
    ),
    Mutant(
        limit_mutants.a_key_is_held_while_its_job_runs_only,
        (
            by(
                test_limits.test_an_ordered_key_waits_for_the_next_attempt,
                outcome=Retry(ERROR, test_limits.LATER),
            ),
            by(test_limits.test_an_ordered_key_waits_for_a_job_whose_worker_died),
        ),
    ),
    Mutant(
        limit_mutants.nobody_is_let_through,
        (
            by(test_limits.test_the_end_of_a_run_lets_the_next_pass, limit=test_limits.ONE),
            ANY_STEPS,
        ),
    ),
    Mutant(
        limit_mutants.only_what_can_be_locked_is_in_line,
        (by(test_limits.test_nobody_overtakes_a_job_of_an_ordered_key_whose_row_is_locked),),
        SERVERS,
    ),
    Mutant(
        limit_mutants.places_are_not_kept,
        (
            by(
                test_limits.test_nobody_overtakes_a_job_of_an_ordered_key_that_there_was_no_thread_for
            ),
        ),
    ),
    Mutant(
        limit_mutants.any_job_of_an_ordered_key_may_be_named,
        (
            by(
                test_limits.test_a_job_of_an_ordered_key_that_is_claimed_by_its_id_waits_for_its_turn
            ),
        ),
    ),
]


@pytest.fixture
def session_zone(vendor):
    """Live far to the east of the tables; see ``test_clock.session_zone``."""
    yield from test_clock.in_zone(vendor, "+05:30")


@pytest.fixture
def mutant(request, vendor):
    """Return a mutant that makes sense on this database."""
    if vendor not in request.param.vendors:
        pytest.skip(f"makes sense on {', '.join(request.param.vendors)}")
    return request.param


each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=str, indirect=True)


@each_mutant
def test_with_the_guard_in_place_its_tests_pass(request, store, mutant):
    for killer in mutant.killers:
        wipe()
        killer.run(request)


@each_mutant
def test_without_the_guard_each_of_its_tests_fails(request, store, mutant, monkeypatch):
    if mutant.weaken.__module__ in ONE_BY_ONE:
        test_limits.one_by_one(monkeypatch, store)
    mutant.weaken(monkeypatch, type(store))

    survived = [killer for killer in mutant.killers if passes(killer, request)]

    monkeypatch.undo()
    assert survived == []


def passes(killer, request):
    wipe()
    try:
        killer.run(request)
    except MISTAKES:  # of the mutant itself, which then has shown nothing
        raise
    except (Exception, pytest.fail.Exception):
        return False
    return True
