/* A list of servers that changes while a queue waits and messages grant (PROTOCOL.md, "One list of
 * servers"), as a model for spin. The record itself is log.pml's; here it is only the queue that its
 * words amount to. One token serves at both places here, so a message must say where; the library
 * takes another token at the second place.
 *
 * One key. Server o keeps it under OLD, n under NEW. CLIENTS clients, once each: they go to o and do
 * what the item there says, read with the lock at o in hand; one that starts with NEW asks n, whose
 * item sends it to o during the move. The mover makes both items OLD>NEW, waits for the longest
 * lease, makes both NEW; it may stop anywhere. Messages may be lost, late, doubled. Nobody dies, and
 * whoever holds releases at last, so that nobody has to be taken out.
 *
 * Checked: one holder within leases; tokens rise.
 *
 *   (none)         the protocol as it is
 *   NO_ITEM        a message does not say which item its sender read
 *   NO_PLACE       a message does not say at which server           
 *   NO_WAIT        the mover does not wait
 *   READ_FIRST     the item is read before the write
 *   TOKEN_FROM_O   the token of o where both are held
 *   EXTEND_ALONE   who holds o alone and meets OLD>NEW goes on without n
 */
#ifndef CLIENTS
#define CLIENTS 3
#endif
#define LEASE 2
#define GRACE 1
#define OLD 0
#define BOTH 1
#define NEW 2
#define O 0
#define N 1
#define OFF LEASE
#define LEFT(span, used) ((used) >= (span) -> 0 : (span) - (used))

byte item[2]; /* as o and n have it */
typedef queue { byte c[CLIENTS]; byte size }; /* client + 1 */
queue at[2];
byte last_cas[2];

byte told[CLIENTS], told_cas[CLIENTS], told_place[CLIENTS], told_item[CLIENTS]; /* told: 1 there is one */
byte lease[CLIENTS], elapsed[CLIENTS], waited[CLIENTS];
byte running = CLIENTS, top_kind, top_cas, pause;

inline come(p) { /* once: a second entry of a token does nothing */
  k = 0;
  do :: k < at[p].size && at[p].c[k] != i + 1 -> k++ :: else -> break od;
  if
  :: k == at[p].size -> at[p].c[at[p].size] = i + 1; at[p].size++
  :: else -> skip
  fi;
  last_cas[p]++; k = 0
}

inline leave(p) {
  k = 0;
  do :: k < at[p].size && at[p].c[k] != i + 1 -> k++ :: else -> break od;
  if
  :: k < at[p].size ->
     do :: k + 1 < at[p].size -> at[p].c[k] = at[p].c[k + 1]; k++ :: else -> break od;
     at[p].size--; at[p].c[at[p].size] = 0;
     last_cas[p]++;
     if
     :: at[p].size > 0 -> /* tells the next */
        k = at[p].c[0] - 1;
        told[k] = 1; told_cas[k] = last_cas[p]; told_place[k] = p; told_item[k] = item[p]
     :: else -> skip
     fi
  :: else -> skip
  fi;
  k = 0
}

inline now_holds(its_kind, its_cas, its_span) {
  lease[i] = its_span;
  if
  :: lease[i] > 0 ->
     for (k : 0 .. CLIENTS - 1) { assert(k == i || lease[k] == 0) } /* OVERLAP */
     k = 0;
     assert(its_kind > top_kind || (its_kind == top_kind && its_cas > top_cas)); /* TOKEN FELL */
     top_kind = its_kind; top_cas = its_cas
  :: else -> skip
  fi;
  waited[i] = GRACE; elapsed[i] = OFF
}

#ifdef TOKEN_FROM_O
#define KIND_OF_BOTH (seen == BOTH -> 1 : 2)
#define NUMBER_OF_BOTH (seen == BOTH -> last_cas[O] : last_cas[N])
#else
#define KIND_OF_BOTH 2
#define NUMBER_OF_BOTH last_cas[N]
#endif
#ifdef NO_ITEM
#define SAME_ITEM true
#else
#define SAME_ITEM (told_item[i] == seen) /* else it looks first */
#endif
#ifdef NO_PLACE
#define RIGHT_PLACE(p) true
#else
#define RIGHT_PLACE(p) (told_place[i] == p)
#endif
#define FRONT(p) (at[p].size > 0 && at[p].c[0] == i + 1)

active [CLIENTS] proctype client() {
  byte i = _pid, k, seen, span, cas, kind;
  bool first;
  waited[i] = GRACE; elapsed[i] = OFF;

  if
  :: goto at_o
  :: true -> /* starts with NEW: asks n */
     if
     :: item[N] == NEW -> seen = NEW; goto at_n_alone
     :: item[N] == BOTH -> goto at_o
     :: item[N] == OLD -> goto finished /* refused */
     fi
  fi;

at_o:
  elapsed[i] = 0;
#ifdef READ_FIRST
  seen = item[O];
#endif
  d_step { come(O); first = (at[O].size == 1) }; /* first: comes in at once */
  d_step {
#ifndef READ_FIRST
    seen = item[O];
#endif
    cas = last_cas[O];
    span = (first -> LEASE : GRACE);
    if
    :: !FRONT(O) -> waited[i] = (elapsed[i] < GRACE -> elapsed[i] : GRACE); elapsed[i] = OFF
    :: FRONT(O) && seen == OLD -> now_holds(1, cas, LEFT(span, elapsed[i]))
    :: else -> elapsed[i] = OFF
    fi;
    first = FRONT(O)
  };
  if
  :: first -> goto in_front
  :: else -> skip
  fi;

wait_at_o:
  if
  :: elapsed[i] = 0; /* looks */
     d_step {
#ifndef READ_FIRST
       seen = item[O];
#endif
       cas = last_cas[O];
       first = FRONT(O);
       if
       :: !first -> waited[i] = (elapsed[i] < GRACE -> elapsed[i] : GRACE); elapsed[i] = OFF
       :: first && seen == OLD -> now_holds(1, cas, LEFT(GRACE, waited[i]))
       :: else -> elapsed[i] = OFF
       fi
     };
     if
     :: first -> goto in_front
     :: !first -> goto wait_at_o
     fi
  :: d_step { told[i] && RIGHT_PLACE(O) && waited[i] < GRACE && SAME_ITEM -> if
       :: seen == OLD -> now_holds(1, told_cas[i], LEFT(GRACE, waited[i]))
       :: else -> skip
       fi
     };
     goto in_front
  fi;

in_front: /* at o, whose item was `seen` */
  if
  :: seen == OLD && lease[i] > 0 -> goto holding_o
  :: seen == OLD && lease[i] == 0 -> /* too late: confirms */
     elapsed[i] = 0;
     d_step {
#ifndef READ_FIRST
       seen = item[O];
#endif
       last_cas[O]++; cas = last_cas[O];
       if
       :: seen == OLD -> now_holds(1, cas, LEFT(LEASE, elapsed[i]))
       :: else -> elapsed[i] = OFF
       fi
     };
     if
     :: seen == OLD && lease[i] > 0 -> goto holding_o
     :: seen == OLD && lease[i] == 0 -> goto release_o
     :: else -> goto in_front
     fi
  :: seen == BOTH -> goto at_n
  :: seen == NEW -> /* the move is over: to n alone */
     d_step { leave(O) };
     goto at_n_alone
  fi;

holding_o:
  if
  :: skip
  :: elapsed[i] = 0; /* extends */
     d_step {
       last_cas[O]++;
       seen = item[O];
#ifdef EXTEND_ALONE
       lease[i] = (lease[i] > 0 -> LEFT(LEASE, elapsed[i]) : 0);
#else
       if
       :: lease[i] > 0 && seen == OLD -> lease[i] = LEFT(LEASE, elapsed[i])
       :: else -> skip /* takes n, or lets it end */
       fi;
#endif
       elapsed[i] = OFF
     }
  fi;
  lease[i] = 0;
  goto release_o;

at_n: /* with o in hand */
at_n_alone:
  elapsed[i] = 0;
  d_step { come(N); first = (at[N].size == 1) };
  d_step {
    kind = KIND_OF_BOTH;
    cas = NUMBER_OF_BOTH;
    span = (first -> LEASE : GRACE);
    if
    :: !FRONT(N) -> waited[i] = (elapsed[i] < GRACE -> elapsed[i] : GRACE); elapsed[i] = OFF
    :: else -> now_holds(kind, cas, LEFT(span, elapsed[i]))
    fi;
    first = FRONT(N)
  };
  if
  :: first -> goto holding_n
  :: else -> skip
  fi;
wait_at_n:
  if
  :: elapsed[i] = 0;
     d_step {
       kind = KIND_OF_BOTH;
    cas = NUMBER_OF_BOTH;
       first = FRONT(N);
       if
       :: !first -> waited[i] = (elapsed[i] < GRACE -> elapsed[i] : GRACE); elapsed[i] = OFF
       :: else -> now_holds(kind, cas, LEFT(GRACE, waited[i]))
       fi
     };
     if
     :: first -> goto holding_n
     :: !first -> goto wait_at_n
     fi
  :: d_step { told[i] && RIGHT_PLACE(N) && waited[i] < GRACE ->
       now_holds(2, told_cas[i], LEFT(GRACE, waited[i])) };
     goto holding_n
  fi;
holding_n:
  lease[i] = 0;
  d_step { leave(N) };
release_o:
  lease[i] = 0;
  d_step { leave(O) };

finished:
  skip;
  d_step { lease[i] = 0; told[i] = 0; told_cas[i] = 0; told_item[i] = 0; told_place[i] = 0; waited[i] = GRACE;
    elapsed[i] = OFF; seen = 0; span = 0; cas = 0; kind = 0; first = false; running-- }
}

active proctype mover() {
  if :: item[N] = BOTH; item[O] = BOTH :: item[O] = BOTH; item[N] = BOTH :: goto stopped fi;
#ifndef NO_WAIT
  pause = LEASE;
  if :: pause == 0 :: goto stopped fi;
#endif
  if :: item[N] = NEW; item[O] = NEW :: item[O] = NEW; item[N] = NEW :: goto stopped fi;
stopped:
  skip
}

active proctype time() {
  byte c;
  do
  :: running > 0 -> d_step {
       if :: pause > 0 -> pause-- :: else -> skip fi;
       for (c : 0 .. CLIENTS - 1) {
         if :: lease[c] > 0 -> lease[c]-- :: else -> skip fi;
         if :: elapsed[c] < LEASE -> elapsed[c]++ :: else -> skip fi;
         if :: waited[c] < GRACE -> waited[c]++ :: else -> skip fi
       }
       c = 0
     }
  :: running == 0 -> break
  od
}
