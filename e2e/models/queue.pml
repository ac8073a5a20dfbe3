/* Exactly once: a model of what the consumers of one queue and PostgreSQL do to its events.
 *
 * Each step is one transaction or one statement that others can see. README.md says what is left out, and what the properties mean. `run` sets:
 *
 *   what may happen    EVENTS CONSUMERS ATTEMPTS CRASHES RESTARTS CUTS FAILURES RETURNS (numbers), POISON, GROUP
 *   what is checked    no_twice, no_stale, no_lost; with POISON no_neighbour and no_loop
 *   what is taken out  SETTLED_APART NO_EPOCH KEPT_LEASES NO_ALONE ALONE_BESIDE LATE_COUNT KEPT_ATTEMPT
 *                      FIRST_SPENDS ALWAYS_FREE ENDLESS; with GROUP LOST_LEFT NO_SAVEPOINT
 */
#ifndef EVENTS
#define EVENTS 2 /* 1 or 2 */
#endif
#define CONSUMERS 2 /* replicas, each with a control connection and transactions of its own */
#ifndef ATTEMPTS
#define ATTEMPTS 2 /* delivery.maxAttempts */
#endif
#ifndef CRASHES
#define CRASHES 0 /* of consumers, each followed by a new one that knows nothing */
#endif
#ifndef RESTARTS
#define RESTARTS 0 /* of PostgreSQL: transactions end, and commits that were asynchronous and not flushed are undone */
#endif
#ifndef CUTS
#define CUTS 0 /* connections that are lost with a transaction open */
#endif
#ifndef FAILURES
#define FAILURES 0 /* handlers that fail, so that the event is retried */
#endif
#ifndef RETURNS
#define RETURNS 0 /* events given back unstarted */
#endif

/* ---- state ---- */

/* An event's row. READY: due, or will be. LEASED: until some time. DONE: its row is gone. DEAD: it is a dead letter. */
mtype:event = { READY, LEASED, DONE, DEAD };
/* What a consumer has of an event. TAKEN: claimed, not begun. AT_WORK: its handler runs in a transaction. KEPT: it has ended well and its savepoint was
 * released; the transaction may take another event (only GROUP). SETTLED: the transaction's last statement is
 * done and holds the row; COMMIT is on its way. BROKEN: the transaction is lost, the handler does not know yet. APART: the handler's writes are
 * committed, the settlement is to come (only SETTLED_APART). */
mtype:hand = { NOTHING, TAKEN, AT_WORK, KEPT, SETTLED, BROKEN, APART };

mtype:event event[EVENTS] = READY;
byte epoch[EVENTS];   /* of the lease; in the row */
byte attempt[EVENTS]; /* in the row */
bit alone[EVENTS];    /* its lease ran out unsettled: to be claimed with nothing else in flight; in the row */
bit spared[EVENTS];   /* it was claimed so once, which spent no attempt; in the row */
bit locked[EVENTS];   /* a transaction that settles it holds the row */
byte soft[EVENTS];    /* its claim is committed and not flushed; 2: it spent no attempt */
mtype:hand hand[EVENTS * CONSUMERS] = NOTHING;
byte mine[EVENTS * CONSUMERS]; /* the epoch that was claimed with it */

#ifdef GROUP
bit left[EVENTS * CONSUMERS]; /* the transaction that is open has writes of a handler whose event it does not settle */
#endif

byte effects[EVENTS]; /* history: how often the handler's writes were committed */
byte holder[EVENTS];  /* history: 1 + the consumer that has the lease as the row knows it, 0: nobody */
byte deaths;          /* history: processes that the poison ended */
byte crashes = CRASHES, restarts = RESTARTS, cuts = CUTS, failures = FAILURES, returns = RETURNS;

/* ---- words ---- */

#define HAND(k, e)  hand[EVENTS * (k) + (e)]
#define MINE(k, e)  mine[EVENTS * (k) + (e)]
#define LEFT(k, e)  left[EVENTS * (k) + (e)]
#define OTHER(e)    (EVENTS - 1 - (e)) /* of two */
#define IS_OVER(e)  (event[e] == DONE || event[e] == DEAD)
#if EVENTS == 2
#define BUSY_WITH_OTHER(k, e) (HAND(k, OTHER(e)) != NOTHING)
#define ALONE_IN_HAND(k, e)   (HAND(k, OTHER(e)) != NOTHING && alone[OTHER(e)])
#define ALL_OVER              (IS_OVER(0) && IS_OVER(1))
#else
#define BUSY_WITH_OTHER(k, e) false
#define ALONE_IN_HAND(k, e)   false
#define ALL_OVER              IS_OVER(0)
#endif

#if defined(NO_ALONE)
#define MAY_CLAIM(k, e) true
#elif defined(ALONE_BESIDE)
#define MAY_CLAIM(k, e) true /* in a batch of its own, and whatever else is in flight */
#else
#define MAY_CLAIM(k, e) (!(alone[e] && BUSY_WITH_OTHER(k, e)) && !ALONE_IN_HAND(k, e))
#endif

#ifdef NO_EPOCH
#define MATCHES(k, e) (event[e] == LEASED)
#else
#define MATCHES(k, e) (event[e] == LEASED && epoch[e] == MINE(k, e))
#endif
#ifdef POISON
#define IS_POISON(e) ((e) == 0)
#else
#define IS_POISON(e) false
#endif
/* The first lost lease may be a neighbour's fault. */
#if defined(FIRST_SPENDS)
#define IS_FREE(e) false
#elif defined(ALWAYS_FREE)
#define IS_FREE(e) alone[e]
#else
#define IS_FREE(e) (alone[e] && !spared[e])
#endif
#define IS_SPENT(e) (attempt[e] >= ATTEMPTS && !IS_FREE(e))
/* Leases of the living are extended in time, where a consumer that is late is not looked for. */
#if defined(ENDLESS)
#define MAY_EXPIRE(e) false
#elif defined(POISON)
#define MAY_EXPIRE(e) (!(HAND(0, e) != NOTHING && MINE(0, e) == epoch[e]) && !(HAND(1, e) != NOTHING && MINE(1, e) == epoch[e]))
#else
#define MAY_EXPIRE(e) true
#endif

/* Events of a group are run one after another, in one transaction, until it is settled. */
#ifdef GROUP
#define MAY_BEGIN(k, e) (HAND(k, OTHER(e)) != AT_WORK && HAND(k, OTHER(e)) != SETTLED)
#else
#define MAY_BEGIN(k, e) true
#endif

inline let_go(k, e)
{
    HAND(k, e) = NOTHING;
    MINE(k, e) = 0
}

/* ---- a consumer ---- */

inline claim(k, e)
{
    /* event_claim(): FOR UPDATE SKIP LOCKED, then the lease; committed asynchronously */
    event[e] == READY && !locked[e] && HAND(k, e) == NOTHING && MAY_CLAIM(k, e) ->
        event[e] = LEASED;
        epoch[e]++;
        soft[e] = (restarts > 0 -> (IS_FREE(e) -> 2 : 1) : 0);
        if
        :: IS_FREE(e) -> spared[e] = 1
        :: else ->
#ifndef LATE_COUNT
               attempt[e]++
#else
               skip
#endif
        fi;
        holder[e] = k + 1;
        HAND(k, e) = TAKEN;
        MINE(k, e) = epoch[e]
}

inline settle(k, e)
{
    /* event_settle(), the last statement of the handler's transaction; it waits for the row's lock. Without a match it raises, and all is rolled back. */
    HAND(k, e) == AT_WORK && !IS_POISON(e) && !locked[e] ->
        if
#ifdef SETTLED_APART
        :: effects[e]++; assert(effects[e] == 1); /* no_twice */ HAND(k, e) = APART
#else
        :: MATCHES(k, e) -> locked[e] = 1; HAND(k, e) = SETTLED
        :: !MATCHES(k, e) -> let_go(k, e)
#endif
        fi
}

inline take_effect(e)
{
    effects[e]++;
    assert(effects[e] == 1) /* no_twice */
}

inline end_well(e)
{
    event[e] = DONE;
    take_effect(e);
    locked[e] = 0
}

/* A commit flushes all that was committed before it. */
inline flush()
{
    soft[0] = 0;
#if EVENTS == 2
    soft[1] = 0
#endif
}

#ifdef GROUP
/* Several events in one transaction, each behind a savepoint, one after the other. A handler that fails takes back its own writes only. */
inline keep(k, e)
{
    HAND(k, e) == AT_WORK && !IS_POISON(e) -> HAND(k, e) = KEPT
}

#define READY_TO_SETTLE(k, e) (HAND(k, e) != KEPT || !locked[e])
#define MAY_SETTLE(k, e)      (HAND(k, e) != KEPT || MATCHES(k, e))

inline settle_kept(k, e)
{
    if
    :: HAND(k, e) == KEPT && MATCHES(k, e) -> locked[e] = 1; HAND(k, e) = SETTLED
#ifdef LOST_LEFT
    :: HAND(k, e) == KEPT && !MATCHES(k, e) -> LEFT(k, e) = 1; let_go(k, e)
#endif
    :: else
    fi
}

/* The transaction is rolled back: each of them is run again, but for a lost one that was in it by itself. */
inline run_again(k, e)
{
    if
    :: HAND(k, e) == KEPT && HAND(k, OTHER(e)) == KEPT -> HAND(k, e) = TAKEN; HAND(k, OTHER(e)) = TAKEN
    :: HAND(k, e) == KEPT && HAND(k, OTHER(e)) != KEPT -> let_go(k, e)
    :: else
    fi
}

inline settle_group(k, e)
{
    /* event_settle_many(): the last statement; one event that does not match makes all of it fail. */
    HAND(k, e) == KEPT && HAND(k, OTHER(e)) != AT_WORK && READY_TO_SETTLE(k, 0) && READY_TO_SETTLE(k, 1) ->
        if
#ifdef LOST_LEFT
        :: settle_kept(k, 0); settle_kept(k, 1)
#else
        :: MAY_SETTLE(k, 0) && MAY_SETTLE(k, 1) -> settle_kept(k, 0); settle_kept(k, 1)
        :: else -> run_again(k, e); LEFT(k, 0) = 0; LEFT(k, 1) = 0
#endif
        fi
}

inline end_of_group(k, e)
{
    if
    :: HAND(k, e) == SETTLED -> end_well(e); let_go(k, e)
    :: else
    fi;
    if
    :: LEFT(k, e) -> take_effect(e); LEFT(k, e) = 0
    :: else
    fi
}
#endif

inline commit(k, e)
{
#ifdef GROUP
    HAND(k, e) == SETTLED -> end_of_group(k, e); end_of_group(k, OTHER(e));
#else
    HAND(k, e) == SETTLED -> end_well(e); let_go(k, e);
#endif
    flush()
}

/* The connection is lost, before COMMIT came or after it did. The answer is not seen: the lease decides. */
inline break_off(k, e)
{
    if
    :: HAND(k, e) == SETTLED -> locked[e] = 0; HAND(k, e) = BROKEN
#ifdef GROUP
    :: HAND(k, e) == KEPT -> HAND(k, e) = BROKEN
#endif
    :: else
    fi;
#ifdef GROUP
    LEFT(k, e) = 0
#endif
}

inline break_late(k, e)
{
    if
    :: HAND(k, e) == SETTLED -> end_well(e); HAND(k, e) = BROKEN
    :: else
    fi;
#ifdef GROUP
    if
    :: LEFT(k, e) -> take_effect(e); LEFT(k, e) = 0
    :: else
    fi
#endif
}

inline fail(k, e)
{
    /* The handler failed: event_retry(), or event_bury() after the last attempt. */
    HAND(k, e) == AT_WORK && failures > 0 && !locked[e] ->
        failures--;
        if
        :: MATCHES(k, e) ->
               assert(holder[e] == k + 1); /* no_stale */
#ifdef LATE_COUNT
               attempt[e]++;
#endif
               holder[e] = 0;
               alone[e] = 0;
               spared[e] = 0;
               event[e] = (attempt[e] >= ATTEMPTS -> DEAD : READY);
               flush()
        :: else
        fi;
#ifdef NO_SAVEPOINT
        LEFT(k, e) = (HAND(k, OTHER(e)) == KEPT);
#endif
        let_go(k, e)
}

inline give_back(k, e)
{
    /* event_give_back() */
    HAND(k, e) == TAKEN && returns > 0 && !locked[e] ->
        returns--;
        if
        :: MATCHES(k, e) ->
               assert(holder[e] == k + 1); /* no_stale */
               holder[e] = 0;
#ifndef KEPT_ATTEMPT
               attempt[e]--;
#endif
               epoch[e]++;
               event[e] = READY;
               flush()
        :: else
        fi;
        let_go(k, e)
}

/* The process ends: its sessions end with it, and their transactions are rolled back. */
inline release(k, e)
{
    if
    :: HAND(k, e) == SETTLED -> locked[e] = 0
    :: else
    fi;
#ifdef GROUP
    LEFT(k, e) = 0;
#endif
    let_go(k, e)
}

inline die(k)
{
    release(k, 0);
#if EVENTS == 2
    release(k, 1)
#endif
}

inline work(k, e)
{
    if
    :: claim(k, e)
    :: HAND(k, e) == TAKEN && MAY_BEGIN(k, e) -> HAND(k, e) = AT_WORK
#ifdef GROUP
    :: keep(k, e)
    :: settle_group(k, e)
#else
    :: settle(k, e)
#endif
    :: commit(k, e)
    :: fail(k, e)
    :: give_back(k, e)
    :: HAND(k, e) == BROKEN -> let_go(k, e) /* an error, or an answer to COMMIT that never came: the lease decides */
#ifdef SETTLED_APART
    :: HAND(k, e) == APART && MATCHES(k, e) -> event[e] = DONE; let_go(k, e)
    :: HAND(k, e) == APART && !MATCHES(k, e) -> let_go(k, e)
#endif
    :: IS_POISON(e) && HAND(k, e) == AT_WORK -> deaths++; assert(deaths <= ATTEMPTS + 1 + RESTARTS); /* no_loop */ die(k)
#ifdef GROUP
    :: cuts > 0 && HAND(k, e) == KEPT -> cuts--; break_off(k, 0); break_off(k, 1)
    :: cuts > 0 && HAND(k, e) == SETTLED -> cuts--; break_off(k, 0); break_off(k, 1)
    :: cuts > 0 && HAND(k, e) == SETTLED -> cuts--; break_late(k, 0); break_late(k, 1)
#else
    :: cuts > 0 && HAND(k, e) == SETTLED -> cuts--; break_off(k, e)
    :: cuts > 0 && HAND(k, e) == SETTLED -> cuts--; break_late(k, e)
#endif
    fi
}

proctype Consumer(byte k)
{
end:
    do
    :: atomic { work(k, 0) }
#if EVENTS == 2
    :: atomic { work(k, 1) }
#endif
    :: atomic { crashes > 0 && !ALL_OVER -> crashes--; die(k) }
    od
}

/* ---- PostgreSQL and its clock ---- */

/* What the next claim finds of a lease that ran out; nobody may have claimed it since. */
inline expire(e)
{
    event[e] == LEASED && !locked[e] && MAY_EXPIRE(e) ->
        holder[e] = 0;
        alone[e] = 1;
#ifdef POISON
        assert(IS_POISON(e) || !IS_SPENT(e)); /* no_neighbour */
#endif
        event[e] = (IS_SPENT(e) -> DEAD : READY)
}

inline undo(e)
{
    if
    :: soft[e] == 1 && event[e] == LEASED -> event[e] = READY; attempt[e] = attempt[e] - 1; epoch[e]--; holder[e] = 0
    :: soft[e] == 2 && event[e] == LEASED -> event[e] = READY; spared[e] = 0; epoch[e]--; holder[e] = 0
    :: else
    fi;
    soft[e] = 0;
    locked[e] = 0
}

/* A consumer's leases are those of its control connection, by which alone they are given back, retried or buried: when that is lost, so are they. The
 * claim may be undone, and the next one has the same epoch. */
inline lose(k, e)
{
    if
    :: HAND(k, e) == AT_WORK || HAND(k, e) == KEPT || HAND(k, e) == SETTLED -> HAND(k, e) = BROKEN
#ifndef KEPT_LEASES
    :: HAND(k, e) == TAKEN -> let_go(k, e)
#endif
    :: else
    fi
}

proctype Postgres()
{
end:
    do
    :: atomic { expire(0) }
#if EVENTS == 2
    :: atomic { expire(1) }
#endif
    :: atomic { soft[0] -> flush() } /* the WAL writer */
#if EVENTS == 2
    :: atomic { soft[1] -> flush() }
#endif
    :: atomic { restarts > 0 && !ALL_OVER ->
           restarts--;
           undo(0); lose(0, 0); lose(1, 0);
#if EVENTS == 2
           undo(1); lose(0, 1); lose(1, 1)
#endif
       }
    od
}

/* Nothing can happen any more: every event has had its effect once, or is a dead letter without any. */
proctype Monitor()
{
end:
    timeout;
    assert(ALL_OVER); /* no_lost */
    assert((event[0] == DONE) == (effects[0] == 1)); /* no_lost */
#if EVENTS == 2
    assert((event[1] == DONE) == (effects[1] == 1)); /* no_lost */
#endif
}

init
{
    atomic { run Consumer(0); run Consumer(1); run Postgres(); run Monitor() }
}
