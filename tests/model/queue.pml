/* The queue in a lock's record (LockOptions::fair) and the hand-over inside a process, as a model,
 * checked by spin (run.sh). Beside lock.pml, which has what is the same without a queue.
 *
 * One key on one server, CLIENTS fair clients that want it ATTEMPTS times each; the first two are
 * threads of one process, so that one may hand the lock to the other. Time passes in ticks between
 * any two steps. FAULTS times in all, a reply is lost or a client dies, in the queue or with the
 * lock.
 *
 * Checked: within leases one holder; tokens rise.
 *
 * Each of these breaks it in one way, and spin finds the error:
 *   UNCONFIRMED   who finds the lock granted to it takes the grant for a lease
 *   BLIND_CONFIRM the confirmation is a set, not a compare-and-swap
 *   EVICT_EARLY   a holder is taken out a tick too early
 *   SAME_STAMP    an extension does not change the stamp, so that it is taken out all the same
 */
#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 1
#endif
#ifndef FAULTS
#define FAULTS 1
#endif

#define LEASE 2
#define GRACE 1
#define TTL (2 * LEASE + GRACE + 1)
#ifdef EVICT_EARLY
#define PATIENCE(lease) ((lease) - 1)
#else
#define PATIENCE(lease) (lease)
#endif

/* The record: its holder (number of an acquisition; 0: no item), the stamp of its last writing, the
 * lease it is for, the queue. */
byte owner, stamp, term, ticks, cas;
byte queue[CLIENTS], waiting;
byte last_cas, last_stamp;

byte lease[CLIENTS];   /* ticks ticks to a holder */
byte elapsed[CLIENTS]; /* since a request was sent */
byte watched[CLIENTS]; /* since the stamp was first seen */
byte handed[CLIENTS];  /* the acquisition by which another thread made it the holder */
byte handed_cas[CLIENTS];
byte token[CLIENTS];   /* the acquisition that it tries */
bool asleep[CLIENTS];  /* in the queue of its process */

byte acquisitions, faults, running = CLIENTS;
byte granted_cas; /* the highest token */

inline write(who, time) {
  last_cas++;
  last_stamp++;
  owner = who;
  stamp = last_stamp;
  term = time;
  cas = last_cas;
  ticks = TTL
}

inline drop() {
  owner = 0; stamp = 0; term = 0; ticks = 0; cas = 0; waiting = 0;
  for (n : 0 .. CLIENTS - 1) { queue[n] = 0 }
  n = 0
}

/* Out of the queue, if it is there. */
inline take_from_queue(who) {
  place = 0;
  do
  :: place < waiting && queue[place] != who -> place++
  :: else -> break
  od;
  if
  :: place < waiting ->
     do
     :: place + 1 < waiting -> queue[place] = queue[place + 1]; place++
     :: else -> break
     od;
     waiting--;
     queue[waiting] = 0
  :: else -> skip
  fi;
  place = 0
}

inline grant_first() {
  next = queue[0];
  take_from_queue(next);
  write(next, GRACE);
  next = 0
}

inline work_alone() {
  n = 0;
  do
  :: n < CLIENTS -> assert(n == i || lease[n] == 0); n++
  :: else -> break
  od;
  n = 0
}

/* Whoever was `me` leaves what is there now: as holder, or from the queue. */
inline leave() {
  if
  :: owner == me && waiting > 0 -> grant_first()
  :: owner == me && waiting == 0 -> drop()
  :: else -> take_from_queue(me); last_cas++; cas = (owner == 0 -> 0 : last_cas)
  fi
}

active [CLIENTS] proctype client() {
  byte i = _pid;
  byte attempts, me, seen_cas, seen_stamp, seen_owner, my_cas, n, place, next;
  bool have, inside;

again:
  if
  :: attempts == ATTEMPTS -> goto finished
  :: attempts < ATTEMPTS -> attempts++
  fi;
  d_step {
    acquisitions++;
    me = acquisitions;
    token[i] = me;
    seen_stamp = 0;
    watched[i] = 0
  }

look: /* add, append or get, each with the record that comes back */
  elapsed[i] = 0;
  atomic {
    have = false;
    inside = false;
    for (n : 0 .. CLIENTS - 1) { inside = inside || (n < waiting && queue[n] == me) }
    n = 0;
    if
    :: owner == 0 -> write(me, LEASE); have = true
    :: owner != 0 && owner != me && !inside ->
       queue[waiting] = me; waiting++; last_cas++; cas = last_cas
    :: else -> skip
    fi;
    if
    :: owner != me && stamp != seen_stamp -> seen_stamp = stamp; watched[i] = 0
    :: else -> skip
    fi;
    seen_cas = cas;
    seen_owner = owner;
    if
    :: faults < FAULTS -> faults++; have = false; goto lost_reply
    :: true
    fi
  };
  if
  :: have -> goto got
#ifdef UNCONFIRMED
  :: !have && seen_owner == me -> goto got
#else
  :: !have && seen_owner == me -> /* granted out of the queue: confirmed by cas and gets */
     elapsed[i] = 0;
     atomic {
#ifdef BLIND_CONFIRM
       write(me, LEASE); have = true;
#else
       if
       :: owner == me && cas == seen_cas -> write(me, LEASE); have = true
       :: else -> skip
       fi;
#endif
       seen_cas = cas;
       if
       :: faults < FAULTS -> faults++; have = false; goto lost_reply
       :: true
       fi
     };
     if
     :: have -> goto got
     :: else -> goto look
     fi
#endif
  :: !have && seen_owner != me && watched[i] >= PATIENCE(term) -> /* the lease has run out */
     atomic {
       if
       :: cas == seen_cas && waiting > 0 -> grant_first()
       :: cas == seen_cas && waiting == 0 -> drop()
       :: else -> skip
       fi
     };
     goto look
  :: !have && seen_owner != me -> goto look
  :: !have && seen_owner != me && i < 2 -> /* sleeps in the queue of its process */
     asleep[i] = true;
     atomic { /* is served, or wakes by itself */
       asleep[i] = false;
       if
       :: handed[i] == me -> seen_cas = handed_cas[i]; handed[i] = 0; goto got
       :: else -> goto look
       fi
     }
  :: !have && seen_owner != me -> /* gives up */
     atomic {
       leave()
     };
     goto again
  :: atomic { faults < FAULTS && !have -> faults++ }; goto finished /* dies in the queue */
  fi;

lost_reply: /* what may have landed is taken back */
  atomic { leave() };
  goto again;

got:
  skip;
  d_step { /* the reply is read */
    my_cas = seen_cas;
    lease[i] = (elapsed[i] < LEASE -> LEASE - elapsed[i] : 0);
    if
    :: lease[i] > 0 ->
       work_alone();
       assert(granted_cas < my_cas);
       granted_cas = my_cas
    :: else -> skip
    fi
  }
  if /* perhaps extend */
  :: skip
  :: elapsed[i] = 0;
     atomic {
       have = (owner == me && lease[i] > 0);
       if
       :: have ->
          last_cas++;
          cas = last_cas;
          ticks = TTL;
          term = LEASE;
#ifndef SAME_STAMP
          last_stamp++;
          stamp = last_stamp
#endif
       :: else -> skip
       fi
     };
     d_step { lease[i] = (have && lease[i] > 0 -> LEASE - elapsed[i] : 0) }
  fi;
  d_step {
    if
    :: lease[i] > 0 -> work_alone()
    :: else -> skip
    fi
  }
  if
  :: atomic { faults < FAULTS -> faults++; lease[i] = 0 }; goto finished /* dies with the lock */
  :: atomic { i < 2 && asleep[1 - i] && handed[1 - i] == 0 && lease[i] > 0 -> /* hands it over */
       lease[i] = 0;
       elapsed[1 - i] = 0
     };
     atomic {
       if
       :: asleep[1 - i] && owner == me ->
          take_from_queue(token[1 - i]);
          write(token[1 - i], LEASE);
          handed[1 - i] = token[1 - i];
          handed_cas[1 - i] = cas
       :: else -> leave()
       fi
     }
  :: lease[i] = 0;
     atomic { leave() }
  fi;
  goto again;

finished:
  atomic { asleep[i] = false; running-- }
}

active proctype time() {
  byte c, n;
  do
  :: running > 0 -> d_step {
       if
       :: ticks > 1 -> ticks--
       :: ticks == 1 -> drop()
       :: else -> skip
       fi;
       for (c : 0 .. CLIENTS - 1) {
         if :: lease[c] > 0 -> lease[c]-- :: else -> skip fi;
         if :: elapsed[c] < LEASE -> elapsed[c]++ :: else -> skip fi;
         if :: watched[c] < LEASE -> watched[c]++ :: else -> skip fi
       }
       c = 0
     }
  :: running == 0 -> break
  od
}

