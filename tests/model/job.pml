/*
 * Jobs, lease rows, workers, a rescuer, and a road between them that loses answers.
 *
 * docs/explanation/state-machine.md is what this model says in words; check.sh runs it.
 *
 * What is modelled. One atomic step is one transaction of the database, or one thing that
 * happens to a process. Two transactions stay open over several steps, because others may act
 * meanwhile: the end of an atomic task (it holds the row of its job, lk[]) and the rescue (it
 * holds the lease row, and the rows of the jobs that it takes). A COMMIT whose answer is lost is
 * left with the server, which decides alone, at any later time.
 *
 * Time. There is no clock. A lease may be over at any moment, although its worker lives: this is
 * a pause, a cut network, a clock that jumps. It must be over some day if nobody renews it. So
 * each worker may be a zombie at any time.
 *
 * Bounds. A job is claimed at most MAXTOK times (then it has failed), FAULTS things go wrong.
 *
 * Flags that weaken the design, one mutant each, are told in check.sh.
 */
#ifndef NW
#define NW 2            /* workers                                                          */
#endif
#ifndef NJ
#define NJ 2            /* jobs: a claim may take both, in one lease row                    */
#endif
#ifndef NL
#define NL 4            /* places for lease rows; running out of them is an error           */
#endif
#ifndef MAXTOK
#define MAXTOK 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef CANCELS
#define CANCELS 1
#endif
#ifndef GUARD
#define GUARD 2         /* the fence: 2 id, state and token; 1 id and state; 0 id           */
#endif

/* State of a job. */
#define READY     0
#define RUNNING   1
#define SUCCEEDED 2
#define FAILED    3
#define CANCELLED 4
/* Who holds the row of a job: nobody, worker w (w+1), the server alone, the rescuer. */
#define FREE   0
#define SERVER 8
#define RESCUE 9
/* What a worker does with a job. */
#define IDLE   0
#define BODY   1        /* the task runs                                                    */
#define TX     2        /* its end is written, COMMIT is not yet answered                   */
#define ENDING 3        /* T4, T5, T7 or T8' has to be written, perhaps after a doubt       */

typedef Job { byte st; byte token; byte lk; byte eff; bit cancel;
#ifdef TOKENBACK
              byte gen    /* how often it was really claimed; for assertions only           */
#endif
};
typedef Lease { bit is;         /* the row exists                                           */
                byte own;       /* its worker                                               */
                byte t[NJ];     /* the list: the token of each job of the batch; 0: not in  */
                bit held;       /* its row is locked by the rescuer                         */
                bit dead;       /* that start of the process is dead: its session lock is free */
                bit known;      /* memory of the owner: the claim was answered              */
                byte open       /* memory of the owner: jobs not confirmed to be over (bits) */
};
typedef Run { byte pc; byte tok; byte row; bit lost;
#ifdef TOKENBACK
              byte gen
#endif
};

Job   job[NJ];
Lease L[NL];
Run   runs[4];          /* runs[w*NJ+j]                                                     */
byte  faults  = FAULTS;
byte  cancels = CANCELS;
byte  late;             /* r+1: this lease is over although its worker renews it; 0: none   */
bit   robbed;           /* a rescue took a job whose lease was good                         */
bit   back_again;       /* a lease row that was gone exists again                           */
hidden byte an_end_is_final, no_effect_twice, a_zombie_writes_nothing, enough_places,
            succeeded_is_the_effect, named_by_one_row;   /* never set: names for assertions   */
hidden byte j, r, i, m; /* scratch: only within one atomic step                             */

#define R(w,j)       runs[(w)*NJ+(j)]
#define CURRENT(j,t) (job[j].st==RUNNING && job[j].token==(t))
#define NAMES(r,j)   (L[r].is && L[r].t[j]!=0 && L[r].t[j]==job[j].token)
#define OVER(j)      (job[j].st>=SUCCEEDED)
#define LIVE(w,j,r)  (R(w,j).pc!=IDLE && !R(w,j).lost && R(w,j).row==(r))
#define USED(r)      (L[r].is || (runs[0].pc!=IDLE && runs[0].row==(r)) || (runs[1].pc!=IDLE && runs[1].row==(r)) \
                              || (runs[2].pc!=IDLE && runs[2].row==(r)) || (runs[3].pc!=IDLE && runs[3].row==(r)))

#if GUARD==2
#define MINE(j,t) CURRENT(j,t)
#elif GUARD==1
#define MINE(j,t) (job[j].st==RUNNING)
#else
#define MINE(j,t) (true)
#endif

#ifdef TOKENBACK
#define HOLDS(w,j) (job[j].st==RUNNING && job[j].gen==R(w,j).gen)
#else
#define HOLDS(w,j) CURRENT(j,R(w,j).tok)
#endif

/* A heartbeat renews the row as long as its owner has a run of it that is not lost. */
#ifdef LEASEBYWORKER
#define RENEWED(r) (L[r].is && !L[r].dead)
#else
#define RENEWED(r) (L[r].is && !L[r].dead && (LIVE(L[r].own,0,r) || LIVE(L[r].own,1,r)))
#endif

/* The lease is over, or its worker is dead. What nobody renews is over some day. */
#define ENDED(r) (L[r].dead || late==(r)+1 || !RENEWED(r))

/* The owner may delete the row. */
#ifdef KNOWNRUNS
#define DELETABLE(r,w) (L[r].is && L[r].own==(w) && !L[r].dead && L[r].known && !L[r].held \
                        && !LIVE(w,0,r) && !LIVE(w,1,r))
#else
#define DELETABLE(r,w) (L[r].is && L[r].own==(w) && !L[r].dead && L[r].known && !L[r].held && L[r].open==0)
#endif

/* The owner holds no run of a job that the database has not confirmed to be over. */
#define FORGOTTEN(w,j,r) (L[r].is && L[r].own==(w) && !L[r].dead && L[r].known && !L[r].held \
                          && (L[r].open & (1<<(j))) && !(R(w,j).pc!=IDLE && R(w,j).row==(r)))

inline gone(q) {
  L[q].is=0; L[q].own=0; L[q].t[0]=0; L[q].t[1]=0; L[q].held=0; L[q].dead=0;
  L[q].known=0; L[q].open=0;
  if :: late==q+1 -> late=0 :: else fi
}

inline idle(w,k) {
  R(w,k).pc=IDLE; R(w,k).tok=0; R(w,k).row=0; R(w,k).lost=0;
#ifdef TOKENBACK
  R(w,k).gen=0
#endif
}

/* The database has told that the job is not running under this token any more. */
inline confirm(w,k) {
  i=R(w,k).row;
  if
  :: L[i].is && L[i].own==w && !L[i].dead -> L[i].open=L[i].open & ~(1<<k)
  :: else
  fi
}

/* running -> ready; failed if it was claimed too often, cancelled if somebody asked for it */
inline back(k) {
  assert(job[k].st==RUNNING || an_end_is_final);
  if
  :: job[k].cancel              -> job[k].st=CANCELLED
  :: else ->
     if
     :: job[k].token>=MAXTOK    -> job[k].st=FAILED
     :: else                    -> job[k].st=READY
     fi
  fi;
  job[k].cancel=0
}

inline succeed(k) {
  assert(job[k].st==RUNNING || an_end_is_final);
#ifndef OUTSIDE
  job[k].eff++;
  assert(job[k].eff==1 || no_effect_twice);
#endif
  job[k].st=SUCCEEDED; job[k].cancel=0
}

#ifdef ENDLESS
#define ENDS(w) (R(w,1).lost)   /* the task of job 1 ends only when it is told to */
#else
#define ENDS(w) true
#endif
inline pick_job(w,p) { if :: R(w,0).pc==p -> j=0 :: R(w,1).pc==p && (p!=BODY || ENDS(w)) -> j=1 fi }

inline pick_place() {
  if
  :: !USED(0) -> r=0
  :: else -> if
     :: !USED(1) -> r=1
     :: else -> if
        :: !USED(2) -> r=2
        :: else -> if
           :: !USED(3) -> r=3
           :: else -> assert(enough_places)
           fi
        fi
     fi
  fi
}

#define CLAIMABLE(w,j) (job[j].st==READY && job[j].lk==FREE && R(w,j).pc==IDLE)

/* One job of a claim: ready -> running, token+1, named in the lease row. */
inline take(w,k) {
  if
  :: m & (1<<k) ->
     job[k].st=RUNNING; job[k].token++;
#ifdef TOKENBACK
     job[k].gen++;
#endif
     L[r].t[k]=job[k].token; L[r].open=L[r].open | (1<<k)
  :: else
  fi
}

/* The answer of a claim has arrived. */
inline begin(w,k) {
  if
  :: L[r].t[k]!=0 ->
     R(w,k).pc=BODY; R(w,k).tok=L[r].t[k]; R(w,k).row=r;
#ifdef TOKENBACK
     R(w,k).gen=job[k].gen
#endif
  :: else
  fi
}

#ifdef NOREAD
#define LOST(w,j) (R(w,j).pc!=IDLE && !R(w,j).lost && !L[R(w,j).row].is)
#else
#define LOST(w,j) (R(w,j).pc!=IDLE && !R(w,j).lost && (!L[R(w,j).row].is || !CURRENT(j,R(w,j).tok)))
#endif

#ifdef TWOCOMMITS
#define EXISTS 0
#else
#define EXISTS 1
#endif

proctype Worker(byte me) {
#ifdef SELECTFIRST
  byte sel;
#endif
#ifdef TWOCOMMITS
  byte mine;
#endif
end_worker:
  do
  /* T1: some of the jobs that may be claimed, and their lease row, in one transaction */
#ifdef SELECTFIRST
  :: atomic { sel==0 && (CLAIMABLE(me,0) || CLAIMABLE(me,1)) ->
       if
       :: CLAIMABLE(me,0) -> sel=1
       :: CLAIMABLE(me,1) -> sel=2
       :: CLAIMABLE(me,0) && CLAIMABLE(me,1) -> sel=3
       fi
     }
  :: atomic { sel!=0 && (!(sel&1) || job[0].lk==FREE) && (!(sel&2) || job[1].lk==FREE) -> m=sel; sel=0;
#else
  :: atomic {
       if                                           /* worker 0 is the first: they are alike  */
       :: (me==0 || job[0].token+job[1].token>0) && CLAIMABLE(me,0) && !CLAIMABLE(me,1) -> m=1
       :: (me==0 || job[0].token+job[1].token>0) && CLAIMABLE(me,1) && !CLAIMABLE(me,0) -> m=2
       :: (me==0 || job[0].token+job[1].token>0) && CLAIMABLE(me,0) && CLAIMABLE(me,1)  -> m=3
       fi;
#endif
       pick_place();
       L[r].is=EXISTS; L[r].own=me;
       take(me,0); take(me,1);
#ifdef TWOCOMMITS
       mine=r+1; goto insert
#else
       if
       :: L[r].known=1; begin(me,0); begin(me,1)
       :: faults>0 -> faults--; L[r].open=0         /* the answer is lost: the owner knows of nothing */
       fi
#endif
     }

  /* T3, first half: the effects and, last, the fenced end; the row of the job is held */
  :: atomic { pick_job(me,BODY);
       if
       :: job[j].lk==FREE ->
#ifdef OUTSIDE
          job[j].eff=1;                             /* an effect outside of the transaction  */
#endif
          if
          :: MINE(j,R(me,j).tok) ->
             assert(HOLDS(me,j) || a_zombie_writes_nothing);
             job[j].lk=me+1; R(me,j).pc=TX;
#ifdef EARLYCONFIRM
             confirm(me,j)
#endif
          :: else -> confirm(me,j); idle(me,j)      /* 0 rows: roll back                    */
          fi
       :: R(me,j).pc=ENDING                         /* the task raised, or has to stop      */
       :: faults>0 -> faults--; idle(me,j)          /* the owner has forgotten the job      */
       fi
     }
  /* T3, second half: COMMIT */
  :: atomic { pick_job(me,TX);
       if
       :: succeed(j); job[j].lk=FREE; confirm(me,j); idle(me,j)
       :: job[j].lk=FREE; R(me,j).pc=ENDING         /* refused: rolled back                 */
       :: faults>0 -> faults--; job[j].lk=SERVER;   /* no answer: the server decides        */
#ifdef DOUBTISOVER
          confirm(me,j);
#endif
          R(me,j).pc=ENDING
       fi
     }
  /* T4, T5, T7, T8': one fenced write, which waits for whoever holds the row */
  :: atomic {
       if
       :: R(me,0).pc==ENDING && job[0].lk==FREE -> j=0
       :: R(me,1).pc==ENDING && job[1].lk==FREE -> j=1
       fi;
       if
#ifdef BLINDFAIL
       :: back(j)
#else
       :: MINE(j,R(me,j).tok)  -> assert(HOLDS(me,j) || a_zombie_writes_nothing); back(j)
       :: !MINE(j,R(me,j).tok) -> skip
#endif
       fi;
       if
       :: confirm(me,j); idle(me,j)
       :: faults>0 -> faults--;                     /* the answer is lost: written again    */
#ifdef DOUBTISOVER
          confirm(me,j); idle(me,j)
#endif
       fi
     }
  :: atomic { faults>0 && (R(me,0).pc==ENDING || R(me,1).pc==ENDING) ->
       pick_job(me,ENDING); faults--; idle(me,j)    /* the owner gives up, and forgets the job */
     }
  /* The owner deletes a lease row */
  :: atomic {
       if
       :: DELETABLE(0,me) -> r=0
       :: DELETABLE(1,me) -> r=1
       :: DELETABLE(2,me) -> r=2
       :: DELETABLE(3,me) -> r=3
       fi;
       gone(r)
     }
#ifndef KEEPFORGOTTEN
  /* The owner gives back a job of its lease row for which it has no run */
  :: atomic {
       if
       :: FORGOTTEN(me,0,0) && job[0].lk==FREE -> j=0; r=0
       :: FORGOTTEN(me,0,1) && job[0].lk==FREE -> j=0; r=1
       :: FORGOTTEN(me,0,2) && job[0].lk==FREE -> j=0; r=2
       :: FORGOTTEN(me,0,3) && job[0].lk==FREE -> j=0; r=3
       :: FORGOTTEN(me,1,0) && job[1].lk==FREE -> j=1; r=0
       :: FORGOTTEN(me,1,1) && job[1].lk==FREE -> j=1; r=1
       :: FORGOTTEN(me,1,2) && job[1].lk==FREE -> j=1; r=2
       :: FORGOTTEN(me,1,3) && job[1].lk==FREE -> j=1; r=3
       fi;
       if
       :: MINE(j,L[r].t[j]) -> back(j)
       :: else
       fi;
       L[r].open=L[r].open & ~(1<<j)
     }
#endif
  /* T2, the reading half: runs that are lost */
  :: atomic {
       if
       :: LOST(me,0) -> j=0
       :: LOST(me,1) -> j=1
       fi;
       R(me,j).lost=1
     }
  od;
#ifdef TWOCOMMITS
insert:
  if
  :: atomic { r=mine-1; mine=0; L[r].is=1; L[r].known=1; begin(me,0); begin(me,1); goto end_worker }
  :: atomic { faults>0 -> faults--; r=mine-1; mine=0; gone(r); goto end_worker }   /* killed between */
  fi
#endif
}

/* What may happen at any time. Progress never depends on it. */
inline die(w,k) {
  if
  :: R(w,k).pc==TX -> job[k].lk=SERVER
  :: else
  fi;
  idle(w,k)
}
inline orphan(q,w) {
  if
  :: L[q].is && L[q].own==w -> L[q].dead=1; L[q].known=0; L[q].open=0
  :: else
  fi
}
active proctype Chance() {
end_chance:
  do
  :: faults<=FAULTS                                  /* nothing: what may happen need not  */
  /* T2, the writing half: a lease is renewed, although it was over */
  :: atomic { late!=0 && RENEWED(late-1) && !L[late-1].held -> late=0 }
#ifdef REINSERT
  :: atomic {
       if
       :: R(0,0).pc!=IDLE && !R(0,0).lost && !L[R(0,0).row].is -> i=0; j=0
       :: R(1,0).pc!=IDLE && !R(1,0).lost && !L[R(1,0).row].is -> i=1; j=0
       fi;
       r=R(i,j).row; L[r].is=1; L[r].own=i; L[r].t[j]=R(i,j).tok; L[r].known=1; L[r].open=1<<j;
       back_again=1
     }
#endif
  :: atomic { late==0 ->                            /* a lease ends although its worker lives   */
       if
       :: RENEWED(0) -> late=1
       :: RENEWED(1) -> late=2
       :: RENEWED(2) -> late=3
       :: RENEWED(3) -> late=4
       fi
     }
  :: atomic { faults>0 -> faults--;                 /* a process dies; its successor has another name */
       if
       :: true -> die(0,0); die(0,1); orphan(0,0); orphan(1,0); orphan(2,0); orphan(3,0)
       :: true -> die(1,0); die(1,1); orphan(0,1); orphan(1,1); orphan(2,1); orphan(3,1)
       fi
     }
  :: atomic { cancels>0 ->                          /* T8: somebody cancels a job               */
       if
       :: job[0].lk==FREE -> j=0
       :: job[1].lk==FREE -> j=1
       fi;
       if
       :: job[j].st==READY   -> job[j].st=CANCELLED; cancels--
       :: job[j].st==RUNNING -> job[j].cancel=1; cancels--
       :: else
       fi
     }
  od
}

/* A transaction whose client is gone is committed or rolled back, some day. */
active proctype Server() {
end_server:
  do
  :: atomic {
       if
       :: job[0].lk==SERVER -> j=0
       :: job[1].lk==SERVER -> j=1
       fi;
       if
       :: succeed(j)
       :: skip
       fi;
       job[j].lk=FREE
     }
  od
}

/* The parent of a dead process gives back what had not begun; it deletes nothing. */
#define GIVES(r,j) (L[r].is && L[r].dead && !L[r].held && L[r].t[j]!=0 && CURRENT(j,L[r].t[j]) && job[j].lk==FREE)
#ifndef LIVENESS
active proctype Parent() {
end_parent:
  do
  :: faults<=FAULTS                                  /* nothing: what may happen need not  */
  :: atomic {
       if
       :: GIVES(0,0) -> j=0
       :: GIVES(1,0) -> j=0
       :: GIVES(2,0) -> j=0
       :: GIVES(3,0) -> j=0
       :: GIVES(0,1) -> j=1
       :: GIVES(1,1) -> j=1
       :: GIVES(2,1) -> j=1
       :: GIVES(3,1) -> j=1
       fi;
       back(j)
     }
  od
}
#endif

#ifndef NORESCUE
#define STUCK(r) (L[r].is && !L[r].held && ENDED(r))

#ifdef NOTOKEN
#define LEFT(r,j) (L[r].t[j]!=0 && job[j].st==RUNNING)
#elif defined STALEJUDGE
#define LEFT(r,j) (L[r].t[j]!=0 && seen[j]==L[r].t[j])
#else
#define LEFT(r,j) (L[r].t[j]!=0 && CURRENT(j,L[r].t[j]))
#endif

#ifdef STALEJUDGE
#define CURRENT_OR_ANY(q,k) CURRENT(k,L[q].t[k])
#else
#define CURRENT_OR_ANY(q,k) true
#endif

/* One job of the row: take it, or skip it because somebody else holds its row. */
inline look(k) {
  if
  :: LEFT(q,k) ->
     if
     :: job[k].lk==FREE && CURRENT_OR_ANY(q,k) ->
#ifndef STALERESCUE
        job[k].lk=RESCUE;
#endif
        taken=taken | (1<<k)
     :: else -> skipped=1
     fi
  :: else
  fi
}

inline rescue(k) {
  if
  :: taken & (1<<k) ->
     /* nobody is robbed: the job's own lease row is the one that is held, and it is not good */
     if
     :: !NAMES(q,k) || !ENDED(q) -> robbed=1
     :: else
     fi;
     back(k); job[k].lk=FREE;
#ifdef TOKENBACK
     if :: job[k].st==READY -> job[k].token-- :: else fi
#endif
  :: else
  fi
}

/* T6 */
active proctype Rescuer() {
  byte q, taken;
  bit skipped;
#ifdef STALEJUDGE
  byte seen[NJ];
#endif
end_rescuer:
  do
  :: atomic {
#ifdef STALEJUDGE
       (STUCK(0) || STUCK(1) || STUCK(2) || STUCK(3) || job[0].st==READY);
       seen[0]=(job[0].st==RUNNING -> job[0].token : 0);
       seen[1]=(job[1].st==RUNNING -> job[1].token : 0);
     }
     atomic {
#endif
       if
       :: STUCK(0) -> q=0
       :: STUCK(1) -> q=1
       :: STUCK(2) -> q=2
       :: STUCK(3) -> q=3
       fi;
#ifndef NOHOLD
       L[q].held=1;
#endif
       look(0); look(1)
     }
     if
#ifdef STALERESCUE
     :: atomic { (!(taken&1) || job[0].lk==FREE) && (!(taken&2) || job[1].lk==FREE) ->
#else
     :: atomic {
#endif
          rescue(0); rescue(1);
          L[q].held=0;
          if :: late==q+1 -> late=0 :: else fi;
          if
#ifdef DELETESKIPPED
          :: gone(q)
#else
          :: !skipped -> gone(q)
          :: else
#endif
          fi;
          q=0; taken=0; skipped=0
        }
#ifndef STALERESCUE
     :: atomic { faults>0 -> faults--;              /* the rescuer dies: all is rolled back     */
          if :: taken&1 -> job[0].lk=FREE :: else fi;
          if :: taken&2 -> job[1].lk=FREE :: else fi;
          L[q].held=0; q=0; taken=0; skipped=0 }
#endif
     fi
  od
}
#endif

/* Invariants. This process has nothing to do unless one of them does not hold. */
#define ROWS(j)  (NAMES(0,j)+NAMES(1,j)+NAMES(2,j)+NAMES(3,j))
#define NAMED(j) (job[j].st!=RUNNING || ROWS(j)==1)
#ifdef OUTSIDE
#define HONEST(j) (job[j].st!=SUCCEEDED || job[j].eff>=1)
#else
#define HONEST(j) ((job[j].st==SUCCEEDED)==(job[j].eff==1))
#endif
#ifndef LIVENESS
active proctype Invariants() {
end_invariants:
  if
  :: atomic { !(HONEST(0) && HONEST(1)) -> assert(succeeded_is_the_effect) }
  :: atomic { !(NAMED(0) && NAMED(1)) -> assert(named_by_one_row) }
  :: atomic { robbed -> assert(!robbed) }
  :: atomic { back_again -> assert(!back_again) }
  fi
}
#endif

init {
  atomic {
#ifdef ONEJOB
    job[1].st=CANCELLED;
#endif
    run Worker(0); run Worker(1)
  }
}

/* each job ends, and no lease row stays */
ltl live  { <> (OVER(0) && OVER(1) && !L[0].is && !L[1].is && !L[2].is && !L[3].is) }
/* with ENDLESS, job 1 runs as long as it may: job 0 ends all the same */
ltl first { <> OVER(0) }
/* with ENDLESS: a zombie learns that it is one */
ltl told  { [] ((R(0,1).pc==BODY && !CURRENT(1,R(0,1).tok)) -> <> (R(0,1).pc!=BODY)) }
