/* To and from zero without loss: a model of what gateways, operator, API server and pods do to one Function.
 *
 * Each step is one critical section, one request to the API server, or one message of the programs; its comment names the C function it
 * stands for. README.md says what is left out, what the properties mean, and how to read a counter-example. `run` sets:
 *
 *   what may happen    REQUESTS PODS MAX DELETES SCALES LOST CRASHES (numbers), ROLL, HOLD, ANSWER_LOST
 *   what is checked    no_cut, no_undo (not with MAY_UNDO), no_robbed and no_early (with ROLL); that nobody is held at the end; with LIVE
 *                      that whoever is held is answered
 *   what is taken out  STALE_FIGURES BY_NUMBER NO_VERSION NO_PROOF NO_ASK_AGAIN NO_DRAIN NO_SETTLE NO_COUNT NO_TEMPLATE
 */
#ifndef REQUESTS
#define REQUESTS 2 /* 1 to 3 */
#endif
#ifndef PODS
#define PODS 2 /* places for pods, going ones included: 2 or 3 */
#endif
#ifndef MAX
#define MAX 1 /* spec.scaling.maxReplicas: 1 or 2 */
#endif
#ifndef DELETES
#define DELETES 0 /* pods deleted by hand */
#endif
#ifndef SCALES
#define SCALES 0 /* times that somebody scales the Deployment to zero by hand */
#endif
#ifndef LOST
#define LOST 0 /* wakes that the API server never gets */
#endif
#ifndef CRASHES
#define CRASHES 0 /* of the operator, each followed by a new one without a memory */
#endif

/* ---- state ---- */

/* A request. HELD: in line (WAITER_QUEUED). GRANTED: has a slot (WAITER_GRANTED), nothing is sent. ON_WAY: sent by a connection that
 * the pod's kernel accepted. AT_WORK: its head was read, http_server_in_flight() counts it. */
mtype:request = { COMING, HELD, GRANTED, ON_WAY, AT_WORK, SERVED, REFUSED };
/* A pod. GONE: also the place of one that was never made. LEAVING: told to stop; it listens until its drain is over. */
mtype:pod = { GONE, STARTING, SERVING, FAILING, LEAVING };
/* What a gateway holds of a pod: nothing that it can use (struct pod absent or usable == false); usable; failure_code is set;
 * leaving, or GATEWAY_POD_TERMINATING. AWAITED, only with ROLL: not usable, but it is in the pod cache, and nothing is wrong with it. */
mtype:view = { NOTHING, USABLE, FAILED, PARTED, AWAITED };

mtype:request request[REQUESTS] = COMING;
byte at[REQUESTS];  /* the gateway that has it */
byte to[REQUESTS];  /* GRANTED and later: the pod */

mtype:pod pod[PODS] = GONE;
mtype:view view[2 * PODS] = NOTHING; /* first those of gateway 0 */

byte replicas;       /* the Deployment's spec */
bit moved;           /* it has another resourceVersion than the operator's cache had at its last look */
#ifdef BY_NUMBER
#define rescale(n) replicas = n; moved = 1
#else
bit rescaled;        /* its generation is another one than at the operator's last look */
#define rescale(n) replicas = n; moved = 1; rescaled = 1
#endif
byte posted[2];      /* 1: the waker's queue holds the function; 2: its patch is on the way */
bit woke[2];         /* history: this gateway's patch woke the function for somebody who is still held */
#ifdef NO_ASK_AGAIN
bit due[2];          /* something happened that makes the gateway ask once */
#endif
byte lost = LOST, crashes = CRASHES, deletes = DELETES, scales = SCALES;
#ifdef ROLL
bit bad;             /* the Deployment's newest template is one that never gets ready */
bit rolled;          /* its controller has seen that */
byte olds;           /* replicas of the ReplicaSet before */
bit of_bad[PODS];    /* the pod is of the newest template */
#define IS_BAD(p) (of_bad[p])
#define WANT_GOOD (rolled -> olds : replicas)
#define WANT_BAD  (rolled && replicas > 0)
#else
#define bad       false
#define IS_BAD(p) false
#define WANT_GOOD replicas
#define WANT_BAD  0
#endif

/* ---- words ---- */

#define VIEW(g, p) view[(g) * PODS + (p)]

#define LISTENS(p) (pod[p] == SERVING || pod[p] == LEAVING)
#define ALIVE(p)   (pod[p] == STARTING || pod[p] == SERVING || pod[p] == FAILING)
#define GOOD(p)    (ALIVE(p) && !IS_BAD(p))
#define BROKEN(p)  (ALIVE(p) && IS_BAD(p))
#define FREE(p)    (pod[p] == GONE && VIEW(0, p) == NOTHING && VIEW(1, p) == NOTHING)

#define IS(r, state, g)    (request[r] == state && at[r] == g)
#define GOES(r, state, p)  (request[r] == state && to[r] == p)
#define HAS(r, g, p)       (at[r] == g && to[r] == p && (request[r] == GRANTED || request[r] == ON_WAY || request[r] == AT_WORK))
#define BUSY(r, g)         (at[r] == g && request[r] != COMING && request[r] != SERVED && request[r] != REFUSED)
#define ON(r, g, p)        (at[r] == g && GOES(r, ON_WAY, p))
#if REQUESTS == 1
#define ANY(macro, a, b) (macro(0, a, b))
#define ANY1(macro, a)   (macro(0, a))
#elif REQUESTS == 2
#define ANY(macro, a, b) (macro(0, a, b) || macro(1, a, b))
#define ANY1(macro, a)   (macro(0, a) || macro(1, a))
#else
#define ANY(macro, a, b) (macro(0, a, b) || macro(1, a, b) || macro(2, a, b))
#define ANY1(macro, a)   (macro(0, a) || macro(1, a) || macro(2, a))
#endif
#if PODS == 2
#define ANY_POD(macro)       (macro(0) || macro(1))
#define ANY_POD1(macro, g)   (macro(g, 0) || macro(g, 1))
#define ANY_VIEW(g, what)    (VIEW(g, 0) == what || VIEW(g, 1) == what)
#define COUNT(macro)         (macro(0) + macro(1))
#else
#define ANY_POD(macro)       (macro(0) || macro(1) || macro(2))
#define ANY_POD1(macro, g)   (macro(g, 0) || macro(g, 1) || macro(g, 2))
#define ANY_VIEW(g, what)    (VIEW(g, 0) == what || VIEW(g, 1) == what || VIEW(g, 2) == what)
#define COUNT(macro)         (macro(0) + macro(1) + macro(2))
#endif
#define WAITING(g) ANY(IS, HELD, g)
#define ASLEEP(g)  (WAITING(g) && !ANY_VIEW(g, USABLE))        /* function_wake_due(), enqueue() */
#define SLOT(g, p) (VIEW(g, p) == USABLE && !ANY(HAS, g, p))   /* pick_pod() with a share of 1 */
#if defined(ROLL) && !defined(NO_TEMPLATE)
/* may_help(): it is of the template before, none of which fails; also one that leaves, since its successor may come before it is gone. */
#define HELPS(g, p) ((VIEW(g, p) == AWAITED || VIEW(g, p) == PARTED) && !IS_BAD(p))
#else
#define HELPS(g, p) false
#endif
#define HOPELESS(g) (!ANY_VIEW(g, USABLE) && ANY_VIEW(g, FAILED) && !ANY_POD1(HELPS, g)) /* hopeless() */
#define IS_SERVING(p)      (pod[p] == SERVING)
#define IS_GOOD_SERVING(p) (pod[p] == SERVING && !IS_BAD(p))
/* It is on its way or serves, and the gateway has heard of it. */
#define IS_KNOWN_GOOD(g, p) ((pod[p] == SERVING || pod[p] == STARTING) && !IS_BAD(p) && VIEW(g, p) != NOTHING)
#define IS_BAD_FAILING(p)  (pod[p] == FAILING && IS_BAD(p))

#ifdef ROLL
#define UNUSABLE AWAITED
#define UNKNOWN(g, p) (VIEW(g, p) == NOTHING || VIEW(g, p) == AWAITED)
#else
#define UNUSABLE NOTHING
#define UNKNOWN(g, p) (VIEW(g, p) == NOTHING)
#endif

/* Nobody is held at g any more: what its patch did is history. */
inline forget_wake(g) { if :: !WAITING(g) -> woke[g] = 0 :: else fi }
#ifdef NO_ASK_AGAIN
#define ask_once(g) due[g] = 1
#else
#define ask_once(g) skip
#endif

/* ---- a request in a gateway: exchange.c, function_state.c ---- */

inline grant(r, g, p) { to[r] = p; request[r] = GRANTED; forget_wake(g) } /* grant() */

proctype Request(byte r)
{
    byte g;
    /* exchange_begin(), function_admit(): it stands in line, if only for a moment. Gateways are alike: the first request's is called 0. */
    atomic {
        if
        :: g = 0
        :: r > 0 -> g = 1
        fi;
#ifdef NO_ASK_AGAIN
        if :: !WAITING(g) -> due[g] = 1 :: else fi; /* enqueue(): the first that waits */
#endif
        at[r] = g;
        request[r] = HELD
    }
    do
    :: request[r] == HELD ->
        if
        :: atomic { SLOT(g, 0) -> grant(r, g, 0) } /* function_settle_waiters() */
        :: atomic { SLOT(g, 1) -> grant(r, g, 1) }
#if PODS > 2
        :: atomic { SLOT(g, 2) -> grant(r, g, 2) }
#endif
        :: atomic { HOPELESS(g) -> /* refuse(), reject_refused(): the pod's failure code */
#ifdef ROLL
               assert(!ANY_POD1(IS_KNOWN_GOOD, g)); /* no_early */
#endif
               request[r] = REFUSED; at[r] = 0; forget_wake(g); break
           }
#ifdef HOLD
        :: atomic { request[r] == HELD -> /* exchange_deadline(), reject_hold_timeout() */
               request[r] = REFUSED; at[r] = 0; forget_wake(g); break
           }
#endif
        fi
    :: atomic { request[r] == GRANTED -> /* go(): connect, or a kept connection */
           if
           :: LISTENS(to[r]) -> request[r] = ON_WAY
           :: else -> /* exchange_connect_failed(), function_pod_unreachable(), ask_again() */
               if
               :: VIEW(g, to[r]) == USABLE -> VIEW(g, to[r]) = UNUSABLE
               :: else
               fi;
               to[r] = 0;
               request[r] = HELD;
               ask_once(g)
           fi
       }
    :: atomic { request[r] == ON_WAY -> /* the pod reads its head */
           assert(LISTENS(to[r])); /* no_cut */
           request[r] = AT_WORK
       }
    :: atomic { request[r] == AT_WORK -> /* exchange_complete(), function_release() */
           assert(LISTENS(to[r])); /* no_cut */
           request[r] = SERVED; to[r] = 0; at[r] = 0; break
       }
    od
}

/* ---- what a gateway gets to know: announce.c, prober.c, kube_catalog.c, function_pods.c ---- */

inline learn(g, p)
{
    if
    /* function_pod_announced(), function_pod_usable() of a probe, enter_state() of a Ready condition */
    :: UNKNOWN(g, p) && LISTENS(p) -> VIEW(g, p) = USABLE
    /* function_update_pod(): failure_code */
    :: UNKNOWN(g, p) && pod[p] == FAILING -> VIEW(g, p) = FAILED
#ifdef ROLL
    /* function_add_pod(): the API shows it, and no more */
    :: VIEW(g, p) == NOTHING && ALIVE(p) -> VIEW(g, p) = AWAITED
#endif
    /* function_pod_goodbye(), enter_state(GATEWAY_POD_TERMINATING): wake_at_once */
    :: VIEW(g, p) != PARTED && pod[p] == LEAVING -> VIEW(g, p) = PARTED; ask_once(g)
    /* function_remove_pod(): wake_at_once */
    :: VIEW(g, p) != NOTHING && pod[p] == GONE -> VIEW(g, p) = NOTHING; ask_once(g)
    fi
}

proctype Catalog(byte g)
{
end:
    do
    :: atomic { learn(g, 0) }
    :: atomic { learn(g, 1) }
#if PODS > 2
    :: atomic { learn(g, 2) }
#endif
    od
}

/* ---- a gateway's waker: keeper.c look(), kube_waker.c ---- */

proctype Waker(byte g)
{
end:
    do
#ifdef NO_ASK_AGAIN
    :: atomic { !posted[g] && ASLEEP(g) && due[g] -> due[g] = 0; posted[g] = 1 }
#else
    :: atomic { !posted[g] && ASLEEP(g) -> posted[g] = 1 } /* function_wake_due(), kube_waker_wake() */
#endif
    :: atomic { posted[g] == 1 -> /* gateway_function_wake_wanted() */
           if
           :: ASLEEP(g) -> posted[g] = 2
           :: else -> posted[g] = 0 /* WAKE_DROPPED */
           fi
       }
    :: atomic { posted[g] == 2 -> /* wake_once(): the patch tests for zero in the API server */
           posted[g] = 0;
           if
           :: lost > 0 -> lost-- /* WAKE_FAILED */
           :: replicas == 0 -> rescale(1); woke[g] = WAITING(g) /* WAKE_DONE */
           :: replicas > 0 /* WAKE_AWAKE */
           fi
       }
    od
}

/* ---- the operator: scaler.c, autoscaler.c, function_scaler.c ---- */

#define QUIET(g) (!ANY1(BUSY, g)) /* inFlight and waiting are 0, idleMs is long enough: time is not modelled */

/* may_sleep_now(): the figures were read after the last change of replicas, which autoscaler_observe() knows by the Deployment's
 * metadata.generation. */
#if defined(STALE_FIGURES)
#define READ_AFTER_CHANGE true
#elif defined(BY_NUMBER)
#define READ_AFTER_CHANGE (remembered == replicas)
#else
#define READ_AFTER_CHANGE (remembered == replicas && !rescaled)
#endif
/* read_state(): the newest template is proven, or it failed and nothing serves. */
#if defined(ROLL) && !defined(NO_PROOF)
#define MAY_SLEEP (!bad || (ANY_POD(IS_BAD_FAILING) && !ANY_POD(IS_SERVING)))
#else
#define MAY_SLEEP true
#endif

proctype Operator()
{
    bit quiet0, quiet1; /* /statz of each, as read in this pass */
    byte remembered;    /* autoscaler_history.replicas; 0: none */
    byte wanted = 0;
    bit writes = 0;
#ifdef ROLL
    bit served; /* history: a pod of the template before served at this look */
#endif
end:
    do
    :: /* scaler_pass(): read_gateways() reads one after the other, then each_function() looks at the cache. */
        atomic { quiet0 = QUIET(0) };
        atomic { quiet1 = QUIET(1) };
        d_step {
            moved = 0;
            wanted = replicas;
            if
            :: replicas == 0 -> /* visit(): forgotten */
                remembered = 0
#ifdef ROLL
                ; if
                :: bad && !rolled -> wanted = 1 /* plan_replicas(): a new generation is proven while nobody calls */
                :: else
                fi
#endif
            :: else -> /* autoscaler_decide() */
                if
                :: quiet0 && quiet1 && READ_AFTER_CHANGE && MAY_SLEEP -> wanted = 0
                :: else
#if MAX > 1
                    ; wanted = (quiet0 && quiet1 -> 1 : MAX)
#endif
                fi;
                remembered = replicas /* autoscaler_observe() */
            fi;
#ifndef BY_NUMBER
            rescaled = 0;
#endif
            writes = (wanted != replicas);
#ifdef ROLL
            served = writes && ANY_POD(IS_GOOD_SERVING);
#endif
            quiet0 = 0; quiet1 = 0
        };
        if
        :: atomic { writes -> /* write_replicas(), function_execute_scale() with the resourceVersion that was seen */
               if
#ifndef NO_VERSION
               :: moved /* ERR_CONFLICT */
               :: else ->
#else
               :: true ->
#endif
                   if
                   :: wanted == 0 ->
#ifndef MAY_UNDO
                       assert(!woke[0] && !woke[1]); /* no_undo */
#endif
#ifdef ROLL
                       assert(!bad || !served || !ANY_POD(IS_GOOD_SERVING)) /* no_robbed */
#endif
                   :: else
                   fi;
                   rescale(wanted);
#ifdef ANSWER_LOST
                   if
                   :: true /* it was applied, but the answer is an error: autoscaler_wrote() is not called */
                   :: remembered = wanted
                   fi
#else
                   remembered = wanted /* autoscaler_wrote() */
#endif
               fi;
               wanted = 0; writes = 0
           }
        :: atomic { !writes -> wanted = 0 }
        :: atomic { crashes > 0 -> crashes--; remembered = 0; wanted = 0; writes = 0 }
        fi
    :: atomic { crashes > 0 -> crashes--; remembered = 0 }
    :: break /* it never comes back */
    od
}

/* ---- Kubernetes ---- */

inline gone(p)
{
    pod[p] = GONE;
#ifdef ROLL
    of_bad[p] = 0
#endif
}

inline stop(p) { if :: pod[p] == SERVING -> pod[p] = LEAVING :: else -> gone(p) fi }

inline make(p, newest)
{
#ifdef ROLL
    of_bad[p] = newest;
#endif
    pod[p] = STARTING
}

/* Places are alike: a new pod gets the first that is free. */
#define FIRST(p)    (FREE(p) && (p < 1 || !FREE(0)) && (p < 2 || !FREE(1)))
#define MAKE(p)     :: atomic { FIRST(p) && COUNT(GOOD) < WANT_GOOD -> make(p, 0) }
#define MAKE_BAD(p) :: atomic { FIRST(p) && COUNT(BROKEN) < WANT_BAD -> make(p, 1) }
#define DROP(p)     :: atomic { GOOD(p) && COUNT(GOOD) > WANT_GOOD -> stop(p) }
#define DROP_BAD(p) :: atomic { BROKEN(p) && COUNT(BROKEN) > WANT_BAD -> stop(p) }

/* The controllers of Deployment and ReplicaSet. maxUnavailable is 0: pods of the template before stay until newer ones are ready. */
proctype Controller()
{
end:
    do
    MAKE(0) MAKE(1)
    DROP(0) DROP(1)
#if PODS > 2
    MAKE(2) DROP(2)
#endif
#ifdef ROLL
    MAKE_BAD(0) MAKE_BAD(1)
    DROP_BAD(0) DROP_BAD(1)
#if PODS > 2
    MAKE_BAD(2) DROP_BAD(2)
#endif
    :: atomic { bad && !rolled -> rolled = 1; olds = replicas }
    :: atomic { rolled && olds > 0 && replicas == 0 -> olds = 0 }
#endif
    od
}

/* drain_decide(): nothing is at work, and DRAIN_SETTLE_MS after all acknowledged, or after DRAIN_QUIET_MS, what was sent has been read. */
#define AT(r, p)    GOES(r, AT_WORK, p)
#define WAY(r, p)   GOES(r, ON_WAY, p)
#define TOLD(g, p)  (VIEW(g, p) == PARTED)
#if defined(NO_DRAIN)
#define DRAINED(p) true
#elif defined(NO_SETTLE)
#define DRAINED(p) (!ANY1(AT, p) && TOLD(0, p) && TOLD(1, p))
#elif defined(NO_COUNT)
/* Only those that it knew of were told, and only what they sent is waited for: the gateways don't say how many they are. */
#define DRAINED(p) (!ANY1(AT, p) && (TOLD(0, p) || TOLD(1, p)) && !(TOLD(0, p) && ANY(ON, 0, p)) && !(TOLD(1, p) && ANY(ON, 1, p)))
#else
#define DRAINED(p) (!ANY1(AT, p) && !ANY1(WAY, p))
#endif

/* Kubelet and runtime of one pod. */
proctype Pod(byte p)
{
end:
    do
    :: atomic { pod[p] == STARTING ->
           if
           :: IS_BAD(p) -> pod[p] = FAILING
           :: else -> pod[p] = SERVING /* listens: announcer_announce() */
           fi
       }
    :: atomic { pod[p] == LEAVING && DRAINED(p) -> gone(p) }
    od
}
/* People. */
proctype Hand()
{
end:
    do
#if DELETES > 0
    :: atomic { deletes > 0 && ALIVE(0) -> deletes--; stop(0) }
    :: atomic { deletes > 0 && ALIVE(1) -> deletes--; stop(1) }
#endif
#if SCALES > 0
    :: atomic { scales > 0 && replicas > 0 -> scales--; rescale(0); woke[0] = 0; woke[1] = 0 }
#endif
#ifdef ROLL
    :: atomic { !bad -> bad = 1; moved = 1 }
#endif
    :: false
    od
}

init
{
    atomic {
        if
        :: replicas = 0
        :: replicas = 1; pod[0] = SERVING; VIEW(0, 0) = USABLE; VIEW(1, 0) = USABLE
        fi;
        run Request(0);
#if REQUESTS > 1
        run Request(1);
#endif
#if REQUESTS > 2
        run Request(2);
#endif
        run Catalog(0); run Catalog(1);
        run Waker(0); run Waker(1);
        run Operator();
        run Controller();
        run Pod(0); run Pod(1);
#if PODS > 2
        run Pod(2);
#endif
#if DELETES > 0 || SCALES > 0 || defined(ROLL)
        run Hand();
#endif
    }
}

#ifdef LIVE
ltl answered { [] (request[0] == HELD -> <> (request[0] == SERVED || request[0] == REFUSED)) }
#endif
