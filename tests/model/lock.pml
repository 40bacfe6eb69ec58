/* The lock protocol of src/PROTOCOL.md as a model, checked exhaustively by spin (run.sh).
 *
 * One key on one server; CLIENTS clients that try to take it ATTEMPTS times each. Time passes in
 * ticks between any two steps, so every step of everybody may take as long as it likes: that is
 * how a client stalls, a message is late, a holder goes on after its lease. Besides, FAULTS times
 * in all, a request or a reply is lost, a holder dies, the server restarts or is flushed; and it
 * may expire an item up to a tick early, at no charge. With STOPS it may also be stopped, and serve
 * requests by a clock that stood still, until it looks at its clock again.
 *
 * Checked, as assertions: within leases one holder; a release frees nobody else's lock; tokens
 * rise; a store that compares them takes no write after that of a later holder. With LIVE, where
 * answers are in time once they come: everybody who goes on trying gets the lock at last.
 *
 * Each of these names breaks the protocol in one way when defined, and spin finds the error:
 *   PLAIN_DELETE   release by delete, not by compare-and-delete
 *   GET_THEN_ADD   look whether it is free, then set
 *   SHORT_TTL      a TTL without the extra tick for the server's rounding
 *   RELATIVE_TTL   with STOPS: a TTL reckoned from the server's clock as it stands
 *   FROM_REPLY     the lease counted from the reply, not from before the request
 *   NO_GUARD       no restart guard
 *   NO_CHECK       a holder that goes on without looking whether its lease has run out
 *   NO_EPOCH       tokens of the CAS id alone
 *   STALE_CAS      a CAS id from before a restart used after it
 *   NO_FENCING     a store that does not compare tokens
 *   NO_CLEANUP     with LIVE and items that never expire: nothing cleans up after a lost reply
 */

#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif

#define LEASE 2
#ifdef SHORT_TTL
#define TTL LEASE
#else
#define TTL (LEASE + 1)
#endif

/* The server. An item has an owner (the number of an acquisition), a CAS id, and ticks left. */
byte item_owner, item_cas, item_left, last_cas;
byte epoch = 1; /* what the epoch item says; 0: there is none */
byte wall = 1;  /* rises with each epoch item that is made, as a wall clock does */
byte life;      /* how often it has restarted: connections notice */
#ifdef STOPS
bool stopped; /* it serves nobody */
bool late;    /* its clock stands still: also for a while after it goes on */
byte lag;     /* by so many ticks; more than TTL make no difference */
#define SERVED !stopped
#else
#define SERVED true
#endif
#if defined(STOPS) && !defined(RELATIVE_TTL)
#define FULL_TTL (TTL + lag)
#else
#define FULL_TTL TTL
#endif

/* The clients, as far as time changes them. */
byte lease[CLIENTS];   /* ticks left to a holder; 0: none */
byte elapsed[CLIENTS]; /* ticks since the request was sent, up to LEASE */
byte guard[CLIENTS];   /* ticks left of the restart guard */
byte known[CLIENTS];   /* the epoch last seen; 0: none yet */

/* What is watched. */
byte owners, faults, running = CLIENTS;
byte granted_epoch, granted_cas; /* the highest token granted */
byte written_epoch, written_cas; /* the highest token that has written */

#ifdef NO_EPOCH
#define LESS(e1, c1, e2, c2) ((c1) < (c2))
#else
#define LESS(e1, c1, e2, c2) ((e1) < (e2) || ((e1) == (e2) && (c1) < (c2)))
#endif

inline drop_item() {
  item_owner = 0;
  item_cas = 0;
  item_left = 0
}

inline store_item(by) {
  last_cas++;
  item_owner = by;
  item_cas = last_cas;
  item_left = FULL_TTL
}

/* The epoch comes back with each reply; whoever finds none makes one. A new one closes the guard
 * of those who knew another. */
inline see_epoch() {
  if
  :: epoch == 0 -> wall++; epoch = wall; last_cas++
  :: else -> skip
  fi;
  if
  :: known[i] != epoch ->
#ifndef NO_GUARD
     guard[i] = LEASE;
#endif
     known[i] = epoch
  :: else -> skip
  fi
}

/* Compare-and-delete, of what was acquired as `me` and last known with `cas` in `cas_life`. */
inline remove_mine() {
#ifdef PLAIN_DELETE
  if
  :: item_owner != 0 -> assert(item_owner == me); drop_item()
  :: else -> skip
  fi
#else
  if
#ifdef STALE_CAS
  :: item_owner != 0 && item_cas == cas -> assert(item_owner == me); drop_item()
#else
  :: item_owner != 0 && item_cas == cas && life == cas_life -> assert(item_owner == me); drop_item()
#endif
  :: else -> skip
  fi
#endif
}

/* What is done under the lock: nobody else may count on being alone. */
inline work_alone() {
  other = 0;
  do
  :: other < CLIENTS -> assert(other == i || lease[other] == 0); other++
  :: else -> break
  od;
  other = 0
}

active [CLIENTS] proctype client() {
  byte i = _pid;
  byte attempts;
  byte me, cas, cas_life, my_epoch;
  byte token_epoch, token_cas;
  byte other;
  bool answered, free;
  known[i] = 1;

  do
#ifndef LIVE
  :: attempts == ATTEMPTS -> break
  :: attempts < ATTEMPTS && guard[i] == 0 -> /* acquire: add and gets in one message */
     attempts++;
#else
  :: guard[i] == 0 ->
#endif
     d_step {
       me = 0; cas = 0; answered = false; free = false;
       elapsed[i] = 0
     }
#ifdef GET_THEN_ADD
     free = (item_owner == 0);
     atomic {
       SERVED;
       if
       :: free -> owners++; me = owners; store_item(me); cas = item_cas
       :: else -> skip
       fi;
       cas_life = life;
       see_epoch();
       my_epoch = epoch;
       answered = true
     }
#else
     if
#ifdef LIVE
     :: atomic { item_owner != 0 && faults == FAULTS -> skip } /* contended: nothing changes */
#endif
     :: atomic { /* it arrives */
          SERVED;
          if
          :: item_owner == 0 -> owners++; me = owners; store_item(me)
          :: else -> skip
          fi;
          if
          :: answered = true;
             cas_life = life;
             see_epoch();
             my_epoch = epoch;
             if
             :: me != 0 -> cas = item_cas
             :: else -> skip
             fi
#ifdef LIVE
             ;
             free = (cas != 0 && guard[i] == 0)
#endif
          :: faults < FAULTS -> faults++ /* the reply is lost */
          fi
        }
     :: atomic { faults < FAULTS -> faults++ } /* the request is lost */
     fi;
#endif
#ifdef FROM_REPLY
     elapsed[i] = 0;
#endif

     if
     :: answered && cas == 0 -> skip /* another's */
     :: !answered && me == 0 -> skip /* it never arrived, or found another's */
     :: !answered && me != 0 -> /* unanswered: cleaned up, or left to its TTL */
#ifndef NO_CLEANUP
        if
        :: atomic { item_owner == me -> cas = item_cas; cas_life = life };
           atomic { SERVED; remove_mine() }
#ifndef LIVE
        :: skip
#endif
        :: item_owner != me -> skip
        fi
#else
        skip
#endif
     :: answered && cas != 0 ->
#ifdef LIVE
        if
        :: free && faults < FAULTS -> faults++; break /* dies with the lock */
        :: free -> atomic { SERVED; remove_mine() }; break    /* had its turn */
        :: !free -> atomic { SERVED; remove_mine() }          /* guarded: taken back */
        fi
#else
        d_step { /* the reply is read */
          if
          :: guard[i] == 0 -> lease[i] = LEASE - elapsed[i]
          :: else -> skip
          fi
        }
        if
        :: d_step { lease[i] == 0 -> skip } /* too late, or guarded: taken back */
           atomic { SERVED; remove_mine() }
        :: d_step { lease[i] > 0 ->
             work_alone();
             assert(LESS(granted_epoch, granted_cas, my_epoch, cas));
             granted_epoch = my_epoch;
             granted_cas = cas;
             token_epoch = my_epoch;
             token_cas = cas
           }

           /* perhaps extend: cas and gets in one message, counted from before it */
           if
           :: skip
           :: elapsed[i] = 0;
              atomic { /* it arrives */
                SERVED;
                if
                :: item_owner == me && item_cas == cas && life == cas_life ->
                   last_cas++;
                   item_cas = last_cas;
                   item_left = FULL_TTL;
                   free = true
                :: else -> free = false
                fi;
                if
                :: answered = true; cas = (free -> item_cas : cas)
                :: faults < FAULTS -> faults++; answered = false
                fi
              }
              d_step { /* the reply is read */
                if
                :: answered && free && lease[i] > 0 -> lease[i] = LEASE - elapsed[i]
                :: answered && !free -> lease[i] = 0 /* lost */
                :: else -> skip
                fi
              }
           fi;

           /* the work, and its write, which arrives when it will */
           if
#ifdef NO_CHECK
           :: d_step { work_alone() }
#else
           :: d_step { lease[i] > 0 -> work_alone() }
           :: lease[i] == 0 -> skip
#endif
           fi;
           d_step {
#ifndef NO_FENCING
             if
             :: !LESS(token_epoch, token_cas, written_epoch, written_cas) ->
#endif
                assert(!LESS(token_epoch, token_cas, written_epoch, written_cas));
                written_epoch = token_epoch;
                written_cas = token_cas
#ifndef NO_FENCING
             :: else -> skip
             fi
#endif
           }

           if
           :: atomic { faults < FAULTS -> faults++ } /* dies: neither releases nor works again */
              lease[i] = 0;
              break
           :: lease[i] = 0; /* from here on it does not count on the lock */
              atomic { SERVED; remove_mine() }
              if /* after an extension without answer: the record is read, and again */
              :: atomic { item_owner == me -> cas = item_cas; cas_life = life };
                 atomic { SERVED; remove_mine() }
              :: item_owner != me -> skip
              fi
           fi
        fi
#endif
     fi
  od;
  running--
}

/* All clocks but the wall clock go alike. */
active proctype time() {
  byte c;
  do
  :: running > 0 -> d_step {
       if
#ifdef STOPS
       :: late -> lag = (lag < TTL -> lag + 1 : lag)
       :: !late && item_left > 1 -> item_left--
       :: !late && item_left == 1 -> drop_item()
#elif !defined(NO_CLEANUP)
       :: item_left > 1 -> item_left--
       :: item_left == 1 -> drop_item()
#endif
       :: else -> skip
       fi;
       for (c : 0 .. CLIENTS - 1) {
         if :: lease[c] > 0 -> lease[c]-- :: else -> skip fi;
         if :: guard[c] > 0 -> guard[c]-- :: else -> skip fi;
         if :: elapsed[c] < LEASE -> elapsed[c]++ :: else -> skip fi
       }
       c = 0
     }
  :: running == 0 -> break
  od
}

/* What happens to the server. */
active proctype nemesis() {
end:
  do
#ifndef NO_CLEANUP
  :: d_step { item_left == 1 -> drop_item() } /* its ticks are not ours: up to one early */
#endif
  :: d_step { faults < FAULTS -> /* SIGKILL, and started again */
       faults++;
       drop_item();
       last_cas = 0;
       epoch = 0;
#ifdef STOPS
       stopped = false;
       late = false;
       lag = 0;
#endif
       life++
     }
#ifdef STOPS
  :: d_step { faults < FAULTS && !late -> faults++; stopped = true; late = true } /* SIGSTOP */
  :: d_step { stopped -> stopped = false }                                        /* SIGCONT */
  :: d_step { late && !stopped -> /* its clock is set */
       if
       :: item_left > lag -> item_left = item_left - lag
       :: item_left <= lag -> drop_item()
       fi;
       late = false;
       lag = 0
     }
#endif
  :: d_step { faults < FAULTS -> faults++; drop_item(); epoch = 0 } /* flush_all */
  :: running == 0 -> break
  od
}

#ifdef LIVE
ltl everybody_gets_a_turn { <> (running == 0) }
#endif
