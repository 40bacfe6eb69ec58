/* A list of servers that changes while clients lock (PROTOCOL.md, "One list of servers"), as a model
 * for spin: what the items of the servers say, how a lost one is made again, and a mover that may
 * stop anywhere. places.pml has the queues and messages; here a record is only held or free.
 *
 * One key. Server o keeps it under OLD, n under NEW; both are in both lists. CLIENTS clients start
 * with either list, and try ATTEMPTS times at most. LOSSES items are lost, by themselves, so leases go on.
 * Nobody dies but the mover, and whoever holds releases at last.
 *
 * Checked: one holder within leases; tokens rise.
 *
 *   (none)           the protocol as it is: too many states for a search to its end; 60 million
 *                    have no error
 *   NO_WAIT          the mover does not wait
 *   NO_CHECK         nor looks whether all is as it wrote it            (not found so far)
 *   READ_FIRST       the item is read before the lock is written
 *   TOKEN_FROM_O     the token of o where both are held
 *   EXTEND_ALONE     who holds o alone and meets OLD>NEW goes on without n
 *   NO_LOOK          a lost item is made from the own list, without a look at the others
 *   ONE_LOOK         and confirmed without a second look               (not found so far)
 *   UNCONFIRMED      an item that is not confirmed grants               (not found so far)
 *   NO_FLOOR         tokens at n are of its number alone
 *   NO_RAISE         the mover does not raise the numbers first         (not found so far)
 */
#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2 /* with those in vain */
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef LEASE
#define LEASE 2
#endif
#define O 0
#define N 1

#define NONE 0
#define MAYBE 1 /* not confirmed; of the old list */
#define OLD 2
#define BOTH 3
#define NEW 4
#define CONFIRMED(state) ((state) >= OLD)

byte item[2], number[2], floor[2], id[2];
byte holder[2]; /* client + 1 */
byte cas[2];
byte lease[CLIENTS], elapsed[CLIENTS];
byte running = CLIENTS, top_number, top_cas, pause, ids = 2;

/* The span is counted from when `elapsed` was 0. */
inline now_holds(its_number, its_cas) {
  lease[i] = (elapsed[i] >= LEASE -> 0 : LEASE - elapsed[i]);
  if
  :: lease[i] > 0 ->
     for (k : 0 .. CLIENTS - 1) { assert(k == i || lease[k] == 0) } /* OVERLAP */
     k = 0;
     assert(its_number > top_number || (its_number == top_number && its_cas > top_cas)); /* FELL */
     top_number = its_number; top_cas = its_cas
  :: else -> skip
  fi
}

/* A lost item, or one that is not confirmed, at `s`; the other server is 1 - s. */
inline establish(s) {
#ifdef NO_LOOK
  d_step {
    if
    :: !CONFIRMED(item[s]) ->
       item[s] = (with_new -> NEW : OLD); ids++; id[s] = ids; number[s] = number[1 - s] + 2; floor[s] = 0
    :: else -> skip
    fi
  }
#else
  best = item[1 - s]; best_number = number[1 - s]; best_floor = floor[1 - s];
  if
  :: CONFIRMED(best) ->
     d_step {
       if
       :: item[s] == NONE -> item[s] = MAYBE; ids++; id[s] = ids; number[s] = 0; floor[s] = 0
       :: else -> skip
       fi;
       mine = id[s]
     };
#ifndef ONE_LOOK
     d_step { best = item[1 - s]; best_number = number[1 - s]; best_floor = floor[1 - s] };
#endif
     d_step {
       if
       :: CONFIRMED(best) && item[s] == MAYBE && id[s] == mine ->
          item[s] = best; floor[s] = (best == BOTH -> best_floor : 0);
          number[s] = (best_number > best_floor -> best_number : best_floor) + 2
       :: else -> skip
       fi;
       best = 0; best_number = 0; best_floor = 0; mine = 0
     }
  :: else -> skip
  fi
#endif
}

#ifdef UNCONFIRMED
#define GRANTS(state) ((state) == OLD || (state) == MAYBE)
#else
#define GRANTS(state) ((state) == OLD)
#endif

active [CLIENTS] proctype client() {
  byte i = _pid, k, seen, seen_number, seen_floor, best, best_number, best_floor, mine, attempts;
  bool with_new, got, both;
  elapsed[i] = LEASE;
  if :: with_new = false :: with_new = true fi;

again:
  skip;
  d_step { seen = 0; seen_number = 0; seen_floor = 0; best = 0; best_number = 0; best_floor = 0; mine = 0; got = false; both = false; k = 0; elapsed[i] = LEASE };
  if
  :: attempts == ATTEMPTS -> goto finished
  :: else -> attempts++
  fi;
  if
  :: with_new -> goto at_n_alone
  :: else -> skip
  fi;

at_o:
  elapsed[i] = 0;
#ifdef READ_FIRST
  d_step { seen = item[O]; seen_number = number[O]; seen_floor = floor[O] };
#endif
  d_step {
    got = (holder[O] == 0);
    if :: got -> holder[O] = i + 1; cas[O]++ :: else -> skip fi;
#ifndef READ_FIRST
    seen = item[O]; seen_number = number[O]; seen_floor = floor[O]
#endif
  };
  if
  :: !CONFIRMED(seen) && !GRANTS(seen) ->
     d_step { if :: got -> holder[O] = 0 :: else -> skip fi };
     establish(O);
     goto again
  :: !got && (CONFIRMED(seen) || GRANTS(seen)) -> goto again
  :: else -> skip
  fi;
  if
  :: GRANTS(seen) ->
     d_step { now_holds(seen_number, cas[O]); both = false };
     goto holding
  :: seen == BOTH || seen == NEW -> goto at_n
  fi;

at_n: /* with o in hand */
  skip;
  d_step {
    got = (holder[N] == 0);
    if :: got -> holder[N] = i + 1; cas[N]++ :: else -> skip fi;
    best = item[N]
  };
  if
  :: got && CONFIRMED(best) ->
     d_step {
#ifdef TOKEN_FROM_O
       if
       :: seen == BOTH -> now_holds(seen_number, cas[O])
       :: else -> now_holds(number[N], cas[N])
       fi;
#else
       best_number = number[N];
#ifndef NO_FLOOR
       best_floor = (seen == BOTH -> seen_floor : 0);
       if :: floor[N] > best_floor -> best_floor = floor[N] :: else -> skip fi;
       if :: best_floor > best_number -> best_number = best_floor :: else -> skip fi;
#endif
       now_holds(best_number, cas[N]);
#endif
       both = true; best = 0; best_number = 0; best_floor = 0
     };
     goto holding
  :: else ->
     d_step { if :: got -> holder[N] = 0 :: else -> skip fi; holder[O] = 0 };
     if
     :: !CONFIRMED(best) -> establish(N)
     :: else -> skip
     fi;
     goto again
  fi;

at_n_alone: /* has the new list */
  elapsed[i] = 0;
  d_step {
    got = (holder[N] == 0);
    if :: got -> holder[N] = i + 1; cas[N]++ :: else -> skip fi;
    seen = item[N]; seen_number = number[N]
  };
  if
  :: !CONFIRMED(seen) ->
     d_step { if :: got -> holder[N] = 0 :: else -> skip fi };
     establish(N);
     goto again
  :: seen == NEW && got ->
     d_step { now_holds(seen_number, cas[N]); both = false };
     goto holding
  :: seen == NEW && !got -> goto again
  :: seen == BOTH -> /* the old list's server first */
     d_step { if :: got -> holder[N] = 0 :: else -> skip fi };
     goto at_o
  :: seen == OLD -> /* refused */
     d_step { if :: got -> holder[N] = 0 :: else -> skip fi };
     goto finished
  fi;

holding:
  if
  :: skip
  :: !both && holder[O] == i + 1 -> /* extends */
     elapsed[i] = 0;
     d_step {
       cas[O]++;
       seen = item[O];
       if
#ifdef EXTEND_ALONE
       :: lease[i] > 0 && elapsed[i] < LEASE -> lease[i] = LEASE - elapsed[i]
#else
       :: lease[i] > 0 && GRANTS(seen) && elapsed[i] < LEASE -> lease[i] = LEASE - elapsed[i]
#endif
       :: else -> skip /* it ends as it was */
       fi
     }
  fi;
  d_step {
    lease[i] = 0; elapsed[i] = LEASE;
    if :: holder[N] == i + 1 -> holder[N] = 0 :: else -> skip fi;
    if :: holder[O] == i + 1 -> holder[O] = 0 :: else -> skip fi;
    seen = 0; seen_number = 0; seen_floor = 0; got = false; both = false
  };
finished:
  skip;
  d_step {
    lease[i] = 0; elapsed[i] = LEASE; seen = 0; seen_number = 0; seen_floor = 0; attempts = 0;
    best = 0; got = false; with_new = false; running--
  }
}

#define HIGHER(one, other) ((one) > (other) -> (one) : (other))

active proctype mover() {
  byte s, its_floor, before, written[2], rounds;
  bool well;
  if :: number[O] = 3; number[N] = 1 :: number[O] = 1; number[N] = 3 fi;
  item[O] = OLD; item[N] = OLD; id[O] = 1; id[N] = 2;

begin:
  rounds++;
  if :: rounds > 2 -> goto stopped :: rounds <= 2 -> skip :: goto stopped fi;
  d_step {
    its_floor = HIGHER(number[O], number[N]);
    its_floor = HIGHER(its_floor, HIGHER(floor[O], floor[N])) + 1
  };
  if
  :: item[O] == NEW || item[N] == NEW -> goto finish
  :: else -> skip
  fi;
#ifndef NO_RAISE
  for (s : 0 .. 1) {
    d_step {
      if
      :: CONFIRMED(item[s]) && number[s] < its_floor - 1 -> number[s] = its_floor - 1
      :: else -> skip
      fi
    }
  }
#endif
  if :: s = N :: s = O fi; /* in either order */
  before = 0;
  do
  :: before < 2 ->
     d_step {
       if
       :: item[s] == NONE -> ids++; id[s] = ids; number[s] = its_floor
       :: item[s] == MAYBE -> number[s] = its_floor
       :: else -> skip
       fi;
       well = (number[s] < its_floor || !CONFIRMED(item[s]));
       if :: well -> item[s] = BOTH; floor[s] = its_floor :: else -> skip fi;
       written[s] = id[s]
     };
     if :: !well -> goto begin :: else -> skip fi;
     s = 1 - s; before++;
     if :: skip :: goto stopped fi
  :: else -> break
  od;
#ifndef NO_WAIT
  pause = LEASE;
  if :: pause == 0 :: goto stopped fi;
#endif
#ifndef NO_CHECK
  for (s : 0 .. 1) {
    if
    :: item[s] == BOTH && id[s] == written[s] -> skip
    :: else -> goto begin
    fi
  }
#endif
finish:
  if :: s = N :: s = O fi;
  before = 0;
  do
  :: before < 2 ->
     d_step {
       if
       :: item[s] == NONE -> ids++; id[s] = ids; number[s] = its_floor + 1
       :: else -> skip
       fi;
       number[s] = HIGHER(number[s], HIGHER(floor[s], its_floor)); item[s] = NEW; floor[s] = 0
     };
     s = 1 - s; before++;
     if :: skip :: goto stopped fi
  :: else -> break
  od;
stopped:
  skip;
  d_step { s = 0; its_floor = 0; before = 0; written[0] = 0; written[1] = 0; rounds = 0; well = false; pause = 0 }
}

active proctype loss() {
  byte left = LOSSES;
  do
  :: left > 0 && id[N] != 0 ->
     if
     :: d_step { item[O] = NONE; floor[O] = 0; number[O] = 0; left-- }
     :: d_step { item[N] = NONE; floor[N] = 0; number[N] = 0; left-- }
     :: left = 0
     fi
  :: else -> break
  od
}

active proctype time() {
  byte c;
  do
  :: running > 0 -> d_step {
       if :: pause > 0 -> pause-- :: else -> skip fi;
       for (c : 0 .. CLIENTS - 1) {
         if :: lease[c] > 0 -> lease[c]-- :: else -> skip fi;
         if :: elapsed[c] < LEASE -> elapsed[c]++ :: else -> skip fi
       }
       c = 0
     }
  :: running == 0 -> break
  od
}
