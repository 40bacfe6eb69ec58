/* The record as a log of words, one key on one server, as a model for spin. run.sh runs it.
 *
 * CLIENTS clients with ATTEMPTS attempts each; client c wants mode Mc: X alone, S shared, L one of
 * two slots. (The library has only X so far.) Time passes in ticks between any two steps, so every
 * step takes as long as it likes: slow answers, stops of a process and late messages need no step of
 * their own. FAULTS times in all, a request is lost, or is late (it lands at any time later, also
 * behind requests that the client sent after it), or its reply is lost; a client dies; the server
 * restarts (-DRESTARTS). A message that tells a waiter that it holds the lock may at any time be
 * lost, late, doubled or of an earlier wait; UNTOLD: none arrives.
 *
 * The record is kept as what its words amount to: an append applies its word. That is equivalent,
 * since the meaning of a log is a left fold; but a rewriting writes each entry as a word (+ or *)
 * and folds that again, so that a rewriting that loses something shows.
 *
 * Checked by assertions: holders that exclude each other never hold at one time, each within the
 * lease that it counts itself; tokens rise over all that exclude each other. With LIVE: all that
 * keep trying hold at last, with every message lost, and deaths.
 *
 * GHOSTS_GO: a waiter has an END too, renews it by `=`, and is taken out by `!` when it has passed.
 * Each of these variants breaks it:
 *   PASS           a reader passes a waiting writer
 *   MINUS_FOR_BANG a dead holder is taken out by `-`, whatever its COUNT
 *   FROM_MESSAGE   a lease counts from the message
 *   FORGET_COUNT   a rewriting sets COUNT to 0
 *   ALL_PLUS       a rewriting makes `+` of all
 *   ALL_ASK        a rewriting makes `?` of all
 *   BELIEVE_END    END is believed of one that waited and never confirmed
 *   ENTRY_TOKEN    token of the first read after the own entry, not of the first as a holder
 *   ANY_TOKEN      the token in a message is not compared
 *   GIVEN_UP       a message is taken after giving up
 *   OTHER_LINE     a CAS id is sent over a connection that is newer than the own append (RESTARTS)
 *   NO_LOOK        nobody looks without a message (LIVE)
 *   SEEN_FROM_SENT first seen to hold: counted from sending that look, not from its answer
 *   END_BACK       `=` sets END also back
 *   BEYOND_EXPIRY  a lease is counted beyond the EXPIRY that was read last
 *   SAME_COUNT     a renewal by cas leaves COUNT as it was (no harm while END is a true bound)
 */
#define X 1
#define S 2
#define L 3
#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 1
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef RENEWALS
#define RENEWALS 1
#endif
#ifndef REWRITES
#define REWRITES 1
#endif
#ifndef M0
#define M0 X
#endif
#ifndef M1
#define M1 X
#endif
#ifndef M2
#define M2 X
#endif
#ifndef M3
#define M3 X
#endif
#ifndef LEASE
#define LEASE 2
#endif
#ifndef GRACE
#define GRACE 1
#endif
#ifdef DEATHS_ONLY
#define LOSSES false
#else
#define LOSSES true
#endif
#define DEAD 255
#ifdef LIVE
#define UNCHANGED whose[0] == me /* no CAS ids there */
#else
#define UNCHANGED true
#endif
#define OFF LEASE /* of `elapsed`: no request is on its way */
#define AHEAD (LEASE + GRACE + 1) /* to where who waits puts EXPIRY off */
#define MOST (CLIENTS * ATTEMPTS) /* entries; also acquisitions, numbered from 1 */
#define WHO(a) (((a) - 1) / ATTEMPTS)
#define MODE(c) ((c) == 0 -> M0 : ((c) == 1 -> M1 : ((c) == 2 -> M2 : M3)))
#define LEFT(span, used) ((used) >= (span) -> 0 : (span) - (used))
#define LESSER(a, b) ((a) < (b) -> (a) : (b))

/* The record: entries in order, EXPIRY in ticks from now, CAS id. */
bool item;
byte expiry, cas, last_cas;
byte entries;
byte whose[MOST];    /* acquisition */
bit sure[MOST];   /* came in at once or confirmed: its END is known */
byte count[MOST]; /* COUNT */
byte ends[MOST];  /* END, in ticks from now */

/* One word that is still in the network, sent by one that gave up waiting for the answer. */
#define NONE 0
#define ASK 1
#define RENEW 2
#define LEAVE 3
byte late_word, late_of, late_ends;

/* A message each: the last that was sent to it; it stays there, as it may come again. */
byte told[CLIENTS], told_cas[CLIENTS];
byte wants[CLIENTS]; /* the acquisition that it tries; a message about another is dropped unread */

/* The clients, as far as time changes them; all in ticks. */
byte lease[CLIENTS];   /* left of a holder's; 0: none */
byte elapsed[CLIENTS]; /* since the last request was sent */
byte waited[CLIENTS];  /* since the last look was sent that showed it waiting */
byte known[CLIENTS];   /* left to the EXPIRY it read last */
#ifdef GHOSTS_GO
byte own[CLIENTS];     /* left to its own END, as last read */
#endif
#ifdef LIVE
bool moved[CLIENTS], got[CLIENTS];
#define MOVED(c) moved[c] = true
#define BEFORE false
#if CLIENTS > 2
#define THIRD_MOVED moved[2]
#else
#define THIRD_MOVED true
#endif
#else
#define MOVED(c) skip
#endif
byte watched[CLIENTS]; /* since it first saw `suspect` hold and not confirm */
byte suspect[CLIENTS], suspect_count[CLIENTS];

/* What is watched. */
byte faults, rewrites, running = CLIENTS;
byte top_alone, top_shared; /* highest tokens granted */
#ifdef RESTARTS
byte life;  /* how often the server restarted */
byte guard; /* ticks in which nobody is let in after it */
#define OPEN (guard == 0)
#else
#define OPEN true
#endif

/* ---- what the words amount to */

#define FIRST MODE(WHO(whose[0]))
#define GOES(k) ((k) == 0 || (FIRST != X && MODE(WHO(whose[k])) == FIRST && (FIRST == S || (k) < 2)))

/* in_front: positions that hold, as bits. */
inline fold() {
  in_front = 0; k = 0;
  do
  :: k < entries && GOES(k) -> in_front = in_front | (1 << k); k++
#ifdef PASS
  :: k < entries && !GOES(k) -> k++
  :: k >= entries -> break
#else
  :: else -> break
#endif
  od;
  k = 0
}

inline find(who) {
  at = 0;
  do
  :: at < entries && whose[at] != who -> at++
  :: else -> break
  od
}

inline remove_at() {
  do
  :: at + 1 < entries ->
     whose[at] = whose[at + 1]; sure[at] = sure[at + 1]; count[at] = count[at + 1]; ends[at] = ends[at + 1];
     at++
  :: else -> break
  od;
  entries--;
  whose[entries] = 0; sure[entries] = 0; count[entries] = 0; ends[entries] = 0;
  at = 0
}

inline drop() {
  item = false; cas = 0; expiry = 0;
  for (k : 0 .. MOST - 1) { whose[k] = 0; sure[k] = 0; count[k] = 0; ends[k] = 0 }
  entries = 0; k = 0
}

#ifdef LIVE
inline stored() { skip } /* the tokens are not looked at */
#else
inline stored() { last_cas++; cas = last_cas }
#endif

/* `append ?`, `add`: one of the two lands. */
inline come(who, end) {
  if
  :: !item -> item = true; expiry = end
  :: else -> skip
  fi;
  if
  :: expiry > 0 ->
     find(who);
     if
     :: at == entries ->
        whose[entries] = who; count[entries] = 0; ends[entries] = end; entries++;
        fold();
        sure[entries - 1] = (in_front == (1 << entries) - 1)
     :: else -> skip /* a second entry of a token does nothing */
     fi;
     stored()
  :: else -> drop() /* it came with an EXPIRY that has passed */
  fi;
  at = 0; in_front = 0
}

/* `append =` */
inline renew(who, end) {
  if
  :: item ->
     find(who);
     if
     :: at < entries ->
#ifdef END_BACK
        ends[at] = end;
#else
        ends[at] = (end > ends[at] || !sure[at] -> end : ends[at]);
#endif
        count[at] = count[at] + 1;
#ifdef GHOSTS_GO
        n = at; /* of one that waits: waits on, until END */
        fold();
        at = n; n = 0;
        sure[at] = sure[at] || ((in_front >> at) & 1);
        in_front = 0
#else
        sure[at] = 1
#endif
     :: else -> skip
     fi;
     stored()
  :: else -> skip
  fi;
  at = 0
}

/* `append -` */
inline leave(who) {
  if
  :: item ->
     find(who);
     if
     :: at < entries -> remove_at()
     :: else -> skip
     fi;
     stored()
  :: else -> skip
  fi;
  at = 0
}

/* `append !` */
inline take_out(who, its_count) {
  if
  :: item ->
     find(who);
     if
#ifdef MINUS_FOR_BANG
     :: at < entries -> remove_at()
#else
     :: at < entries && count[at] == its_count -> remove_at()
#endif
     :: else -> skip
     fi;
     stored()
  :: else -> skip
  fi;
  at = 0
}

/* ---- what a client reads, and what it does about it; all of this is in one step with the read at the
 * server. An answer that comes later changes nothing: what it says is counted from the sending. */

/* `gets`: mine is 0 not there, 1 waits, 2 holds. victim: a holder to take out. */
inline look() {
  mine = 0; mine_sure = 0; victim = 0; victim_count = 0; alone = false; fresh = 0; fresh_count = 0;
  seen_cas = cas;
  known[i] = expiry;
  if
  :: item ->
     fold();
     find(me);
     if
     :: at < entries ->
        mine = ((in_front >> at) & 1) + 1;
        mine_sure = sure[at];
#ifdef GHOSTS_GO
        own[i] = ends[at];
        at = 0;
        do
        :: at < entries && whose[at] != me && victim == 0 ->
           if
           :: !((in_front >> at) & 1) && ends[at] == 0 -> victim = whose[at]; victim_count = count[at]
           :: else -> skip
           fi;
           at++
        :: else -> break
        od;
#endif
        alone = (entries == 1)
     :: else -> skip
     fi;
     at = 0;
     do
     :: at < entries && ((in_front >> at) & 1) ->
        if
        :: whose[at] == me -> skip
        :: whose[at] != me && victim == 0 && sure[at] && ends[at] == 0 ->
           victim = whose[at]; victim_count = count[at]
#ifdef BELIEVE_END
        :: whose[at] != me && victim == 0 && !sure[at] && ends[at] == 0 ->
           victim = whose[at]; victim_count = count[at]
#endif
        :: whose[at] != me && victim == 0 && !sure[at] && watched[i] >= GRACE &&
             suspect[i] == whose[at] && suspect_count[i] == count[at] ->
           victim = whose[at]; victim_count = count[at]
        :: else ->
           if
           :: whose[at] != me && !sure[at] && fresh == 0 -> fresh = whose[at]; fresh_count = count[at]
           :: else -> skip
           fi
        fi;
        at++
     :: else -> break
     od;
     at = 0; in_front = 0
  :: else -> skip
  fi
}

/* It waits: from when this look was sent the grace will count. It watches the first holder that has
 * not confirmed, from now on. */
inline waits() {
  waited[i] = (elapsed[i] < GRACE -> elapsed[i] : GRACE);
  if
  :: fresh != 0 && (fresh != suspect[i] || fresh_count != suspect_count[i]) ->
     suspect[i] = fresh; suspect_count[i] = fresh_count;
#ifdef SEEN_FROM_SENT
     watched[i] = waited[i]
#else
     watched[i] = 0
#endif
  :: else -> skip
  fi;
  seen_cas = 0; alone = false; mine = 1; mine_sure = 0; fresh = 0; fresh_count = 0;
  elapsed[i] = OFF
}

inline forget() {
  waited[i] = GRACE; watched[i] = GRACE; suspect[i] = 0; suspect_count[i] = 0;
#ifdef GHOSTS_GO
  own[i] = 0;
#endif
  known[i] = 0; elapsed[i] = OFF; fresh = 0; fresh_count = 0; victim = 0; victim_count = 0;
  mine = 0; mine_sure = 0; token = 0
}

#ifdef BEYOND_EXPIRY
#define BOUND(n) (n)
#else
#define BOUND(n) LESSER(n, known[i])
#endif

inline check_alone() {
#ifndef LIVE /* where a number is used again */
  n = 0; others = 0;
  do
  :: n < CLIENTS ->
     if
     :: n != i && lease[n] > 0 ->
        others++;
        assert(MODE(i) == MODE(n) && MODE(i) != X); /* OVERLAP: holders that exclude each other */
        assert(MODE(i) != L || others < 2)          /* OVERLAP: three in two slots */
     :: else -> skip
     fi;
     n++
  :: else -> break
  od;
#endif
  n = 0; others = 0
}

/* It holds, for so long, by this token; or for no time at all: then it does not hold. */
inline holds(span, its_token) {
  lease[i] = BOUND(span);
  n = 0;
#ifdef ENTRY_TOKEN
  token = entry_cas;
#else
  token = its_token;
#endif
  if
  :: lease[i] > 0 ->
     check_alone();
#ifndef LIVE
     if
     :: MODE(i) == X ->
        assert(token > top_alone && token > top_shared); /* TOKEN FELL */
        top_alone = token
     :: MODE(i) == S ->
        assert(token > top_alone); /* TOKEN FELL */
        top_shared = (token > top_shared -> token : top_shared)
     :: else -> skip
     fi;
#endif
     forget();
     mine = 5;
     wants[i] = 0
  :: else -> alone = false; seen_cas = 0; mine = 4 /* too late: confirms first */
  fi
}

/* A look showed that it holds after it had to wait. */
#ifdef FROM_MESSAGE
#define SINCE_WAITED 0
#else
#define SINCE_WAITED waited[i]
#endif

inline let_in(used, by) {
  n = LEFT(GRACE, used);
#ifdef GHOSTS_GO
  n = LESSER(n, own[i]);
#endif
  holds(n, by)
}

/* Tells those who hold and have not confirmed. That a message stays where it is and may never be
 * taken makes it late, doubled, lost. */
inline tell() {
#if !defined(LIVE) && !defined(UNTOLD)
  fold();
  at = 0;
  do
  :: at < entries ->
     if
#if defined(ANY_TOKEN) || defined(GIVEN_UP)
     :: ((in_front >> at) & 1) && !sure[at] && WHO(whose[at]) != i ->
#else
     :: ((in_front >> at) & 1) && !sure[at] && WHO(whose[at]) != i && wants[WHO(whose[at])] == whose[at] ->
#endif
        told[WHO(whose[at])] = whose[at]; told_cas[WHO(whose[at])] = cas
     :: else -> skip
     fi;
     at++
  :: else -> break
  od;
  at = 0; in_front = 0
#else
  skip
#endif
}

active [CLIENTS] proctype client() {
  byte i = _pid;
  byte attempts, renewals, me, token;
  byte seen_cas, victim, victim_count, fresh, fresh_count;
  byte mine, at, k, n, others, in_front;
  bit mine_sure;
  bool alone;
#ifdef ENTRY_TOKEN
  byte entry_cas;
#endif
#ifdef RESTARTS
  byte seen_life;
#endif
  forget();

#ifdef STAYS
  if
  :: i == 0 -> /* a reader that is there first and renews for ever */
     d_step { me = 1; come(me, LEASE); wants[0] = 0; lease[0] = LEASE; expiry = AHEAD; got[0] = true; moved[0] = true };
     do
     :: d_step { !moved[0] -> lease[0] = LEASE; ends[0] = LEASE; expiry = AHEAD; moved[0] = true }
     od
  :: i != 0 && got[0] -> MOVED(i)
  fi;
#endif
again:
  MOVED(i);
#ifdef LIVE
  if
  :: attempts > 0 && !got[i] -> attempts-- /* under the same number */
  :: else -> skip
  fi;
#endif
  if
  :: attempts == ATTEMPTS -> goto finished
  :: d_step { attempts < ATTEMPTS && OPEN ->
       attempts++;
       renewals = 0;
       me = i * ATTEMPTS + attempts;
       wants[i] = me;
       forget();
#if !defined(ANY_TOKEN) && !defined(GIVEN_UP)
       told[i] = 0; told_cas[i] = 0;
#endif
       seen_cas = 0; alone = false;
#ifdef RESTARTS
       seen_life = life;
#endif
       elapsed[i] = 0
     }
  fi;
  if
  :: d_step { come(me, LEFT(LEASE, elapsed[i])) }
  :: d_step { LOSSES && faults < FAULTS -> faults++ }; goto unanswered
  :: d_step { LOSSES && faults < FAULTS && late_word == NONE ->
       faults++; late_word = ASK; late_of = me; late_ends = LEFT(LEASE, elapsed[i]) };
     goto unanswered
  fi;
  if
  :: d_step {
       look();
#ifdef ENTRY_TOKEN
       entry_cas = cas;
#endif
       if
       :: mine == 1 -> waits()
       :: mine == 2 && mine_sure && OPEN -> holds(LEFT(LEASE, elapsed[i]), cas)
       :: mine == 2 && !mine_sure && OPEN -> let_in(elapsed[i], cas)
       :: else -> skip
       fi
     }
  :: d_step { LOSSES && faults < FAULTS -> faults++ }; goto unanswered
  fi;

judge:
  MOVED(i);
#ifdef LIVE
  got[i] = got[i] || mine >= 2; /* has been let in; whether in time to use it is a matter of speed */
#endif
  if
  :: mine == 0 -> goto again /* gone: by expiry, or taken out */
  :: mine == 1 -> goto wait
  :: mine == 2 -> goto leaving /* not let in, after a restart */
  :: mine == 4 -> goto confirm
  :: mine == 5 -> mine = 0; goto holding
  fi;

wait:
  if
#ifndef NO_LOOK
  :: victim == 0 -> /* looks by itself */
     elapsed[i] = 0;
     d_step {
       look();
       if
       :: mine == 1 -> waits()
       :: mine == 2 && OPEN -> let_in(SINCE_WAITED, cas)
       :: else -> skip
       fi
     };
     goto judge
#endif
  :: victim != 0 -> /* takes out whom its last look showed to be over */
     d_step { take_out(victim, victim_count); victim = 0; victim_count = 0; suspect[i] = 0; suspect_count[i] = 0; watched[i] = GRACE };
     elapsed[i] = 0;
     d_step {
       look();
       tell();
       if
       :: mine == 1 -> waits()
       :: mine == 2 && OPEN -> let_in(SINCE_WAITED, cas)
       :: else -> skip
       fi
     };
     goto judge
#ifdef GHOSTS_GO
#ifdef LIVE
  :: d_step { own[i] < LEASE - 1 && victim == 0 -> elapsed[i] = 0 }; /* says that it waits on */
#else
  :: d_step { renewals < RENEWALS && victim == 0 -> renewals++; elapsed[i] = 0 };
#endif
     d_step { renew(me, LEFT(LEASE, elapsed[i])) };
     d_step {
       look();
       if
       :: mine == 1 -> waits()
       :: mine == 2 && mine_sure && OPEN -> holds(LEFT(LEASE, elapsed[i]), cas) /* it was a confirmation */
       :: mine == 2 && !mine_sure && OPEN -> let_in(elapsed[i], cas)
       :: else -> skip
       fi
     };
     goto judge
#endif
#ifdef ANY_TOKEN
  :: d_step { told[i] != 0 ->
#else
  :: d_step { told[i] == me ->
#endif
       victim = 0; victim_count = 0;
       seen_cas = told_cas[i];
       alone = true; /* the message has the record; if it was alone there, its cas-delete may succeed */
       let_in(SINCE_WAITED, told_cas[i]);
     };
     goto judge
#ifndef LIVE
  :: goto leaving /* gives up */
#endif
  :: d_step { faults < FAULTS -> faults++ }; goto dead
#ifdef LIVE
  :: d_step { item && expiry < LEASE + GRACE && victim == 0 ->
#else
  :: d_step { item && expiry < LEASE + GRACE && rewrites < REWRITES && victim == 0 -> /* cas: puts EXPIRY off */
       rewrites++;
#endif
       expiry = AHEAD; known[i] = AHEAD; stored() };
     goto wait
  fi;

confirm:
  elapsed[i] = 0;
  d_step { renew(me, LEFT(LEASE, elapsed[i])) };
  d_step {
    look();
    if
    :: mine == 2 && OPEN -> holds(LEFT(LEASE, elapsed[i]), cas)
    :: else -> skip
    fi
  };
  if
  :: mine == 4 -> goto leaving /* too late again */
  :: mine != 4 -> goto judge
  fi;

holding:
  MOVED(i);
#ifdef LIVE
#endif
  if
  :: skip
  :: d_step { renewals < RENEWALS && lease[i] > 0 -> renewals++; elapsed[i] = 0 };
     if
     :: d_step { /* alone: by cas, EXPIRY with it */
          alone && item && cas == seen_cas && entries == 1 && whose[0] == me ->
            ends[0] = LEFT(LEASE, elapsed[i]);
            expiry = (ends[0] > expiry -> ends[0] : expiry);
#ifndef SAME_COUNT
            count[0] = count[0] + 1;
#endif
            sure[0] = 1;
            stored() }
     :: d_step { renew(me, LEFT(LEASE, elapsed[i])) }
     :: d_step { LOSSES && faults < FAULTS && late_word == NONE -> /* on its way; the holder gives the answer up */
          faults++; late_word = RENEW; late_of = me; late_ends = LEFT(LEASE, elapsed[i]); elapsed[i] = OFF };
        goto holding
     fi;
     if
     :: d_step { item && expiry < LEASE && rewrites < REWRITES -> rewrites++; expiry = AHEAD; stored() }
     :: skip
     fi;
     if
     :: d_step {
          look();
          lease[i] = (lease[i] > 0 && mine == 2 -> BOUND(LEFT(LEASE, elapsed[i])) : 0);
          forget()
        };
        goto holding
     :: d_step { faults < FAULTS -> faults++; alone = false; seen_cas = 0; elapsed[i] = OFF }; goto holding
     fi
  :: d_step { faults < FAULTS -> faults++; lease[i] = 0 }; goto dead
  fi;
  d_step { /* goes on with its work */
    if
    :: lease[i] > 0 -> check_alone()
    :: else -> skip
    fi
  }

leaving:
  MOVED(i);
  d_step { lease[i] = 0; wants[i] = 0; forget() };
  if
  :: alone -> /* cas-delete, by the CAS id that it knows */
     d_step {
       alone = false;
#if defined(RESTARTS) && !defined(OTHER_LINE)
       if
       :: item && cas == seen_cas && life == seen_life && entries == 1 -> assert(whose[0] == me); drop(); mine = 3
#else
       if
       :: item && cas == seen_cas && entries == 1 && UNCHANGED -> assert(whose[0] == me); drop(); mine = 3
#endif
       :: else -> skip
       fi;
       seen_cas = 0
     };
     if
     :: mine == 3 -> goto gone
     :: mine != 3 -> goto leaving
     fi
  :: !alone ->
     if
     :: d_step { leave(me) }
     :: d_step { LOSSES && faults < FAULTS && late_word == NONE ->
          faults++; late_word = LEAVE; late_of = me; late_ends = 0 };
        goto gone
     fi;
     d_step { look(); tell(); known[i] = 0; mine = (item && entries == 0 -> 3 : 0) };
     if
     :: mine == 3 -> /* nobody left */
        d_step {
          if
          :: item && cas == seen_cas -> drop()
          :: else -> skip
          fi
        }
     :: mine != 3 && victim != 0 -> /* it read the record as it left */
        d_step { take_out(victim, victim_count); victim = 0; victim_count = 0 };
        d_step { tell() }
     :: mine != 3 && victim == 0 -> skip
     fi
  fi;

gone:
#ifdef GIVEN_UP
  if
  :: d_step { told[i] == me -> known[i] = LEASE; holds(GRACE, told_cas[i]) }; lease[i] = 0
  :: skip
  fi;
#endif
  goto again;

unanswered: /* another attempt, with a new token; the old one is taken out in the background */
  if
  :: d_step { late_word == NONE -> late_word = LEAVE; late_of = me; late_ends = 0 }
  :: skip /* or never */
  fi;
  goto again;

dead:
finished:
  skip;
  d_step {
    forget(); lease[i] = 0;
#ifdef LIVE
    moved[i] = true;
#endif
    told[i] = 0; told_cas[i] = 0; running--;
    wants[i] = DEAD;
    seen_cas = 0; me = 0; alone = false; renewals = 0; attempts = 0
  }
}

/* The network, and who tidies up: reads the record, writes it anew by cas. That its cas succeeds
 * means that nothing came between, so both are one step. */
active proctype others() {
  byte at, k, n, in_front;
  bit keep[MOST];
end:
  do
  :: d_step { late_word != NONE ->
       if
       :: late_word == ASK -> come(late_of, late_ends)
       :: late_word == RENEW -> renew(late_of, late_ends)
       :: late_word == LEAVE -> leave(late_of)
       fi;
       late_word = NONE; late_of = 0; late_ends = 0 }
  :: d_step { item && entries > 0 && rewrites < REWRITES ->
       rewrites++;
       for (n : 0 .. MOST - 1) {
         if
         :: n < entries ->
#ifdef FORGET_COUNT
            count[n] = 0;
#endif
#ifdef ALL_PLUS
            sure[n] = 1;
#endif
#ifdef ALL_ASK
            keep[n] = 1; /* `?` holds from here on if it goes with all before */
            at = entries; entries = n + 1; fold(); sure[n] = (in_front == (1 << entries) - 1);
            entries = at; at = 0;
#endif
            skip
         :: else -> skip
         fi
       };
       for (n : 0 .. MOST - 1) { keep[n] = 0 }
       n = 0; in_front = 0;
       stored() }
  :: running == 0 -> break
#ifdef RESTARTS
  :: d_step { faults < FAULTS && life == 0 ->
       faults++; life++; drop(); last_cas = 0; guard = LEASE; top_alone = 0; top_shared = 0;
       late_word = NONE; late_of = 0; late_ends = 0 }
#endif
  od
}

/* All steady clocks go alike. An item is gone as soon as its EXPIRY has come. */
active proctype time() {
  byte c, k;
  do
#ifdef LIVE
  :: running > 0 && ((moved[0] && moved[1] && THIRD_MOVED) || BEFORE) -> d_step { /* nobody is slower than a tick a step */
#else
  :: running > 0 -> d_step {
#endif
       for (c : 0 .. MOST - 1) {
         if :: ends[c] > 0 -> ends[c]-- :: else -> skip fi
       }
       if
       :: expiry > 1 -> expiry--
       :: expiry == 1 -> drop()
       :: else -> skip
       fi;
       if :: late_ends > 0 -> late_ends-- :: else -> skip fi;
#ifdef RESTARTS
       if :: guard > 0 -> guard-- :: else -> skip fi;
#endif
       for (c : 0 .. CLIENTS - 1) {
         if :: lease[c] > 0 -> lease[c]-- :: else -> skip fi;
         if :: known[c] > 0 -> known[c]-- :: else -> skip fi;
#ifdef GHOSTS_GO
         if :: own[c] > 0 -> own[c]-- :: else -> skip fi;
#endif
#ifdef LIVE
         moved[c] = (wants[c] == DEAD);
#endif
         if :: elapsed[c] < LEASE -> elapsed[c]++ :: else -> skip fi;
         if :: waited[c] < GRACE -> waited[c]++ :: else -> skip fi;
         if :: watched[c] < GRACE -> watched[c]++ :: else -> skip fi
       }
       c = 0
     }
  :: running == 0 -> break
  od
}

#ifdef LIVE
#ifdef STAYS
ltl the_dead_do_not_block { [] (wants[1] == DEAD -> <> (got[2] || wants[2] == DEAD)) }
#else
ltl all_get_in { <> (running == 0) }
#endif
#endif
