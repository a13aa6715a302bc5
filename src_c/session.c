/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "admission.h"
#include "balance.h"
#include "base.h"
#include "clock.h"
#include "count.h"
#include "hash.h"
#include "histogram.h"
#include "poll_tag.h"
#include "proxy_header.h"
#include "sock.h"
#include "worker.h"

/* Both directions, once, edge-triggered: no epoll_ctl while the session lives. */
enum { SIDE_EVENTS = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET };

/* A lingering session looks whether its bytes were acknowledged after this long; less and less often while they are
 * not: after another quarter of the time it has waited. */
enum { LINGER_LOOK_MS = 20, LINGER_LOOK_SHARE = 4 };

#define OFF UINT64_MAX

static void connect_next(struct lb_worker *worker, struct lb_session *session);
static void start(struct lb_worker *worker, struct lb_session *session, const struct lb_listener *listener);

/* ---- time -------------------------------------------------------------------------------------------------------- */

/* When the lifetime is over: for one in the middle of a turn only in overtime. */
static uint64_t over_at_ms(const struct lb_worker *worker, const struct lb_session *session) {
    bool overtime = worker->now_ms >= session->lifetime_at_ms && lb_phase_busy(&session->phase);
    /* For as long again. */
    return overtime ? 2 * session->lifetime_at_ms - session->started_ns / LB_NS_PER_MS : session->lifetime_at_ms;
}

static void arm(struct lb_worker *worker, struct lb_session *session, uint64_t at_ms) {
    lb_timer_arm(&worker->wheel, &session->timer, LB_MIN(at_ms, over_at_ms(worker, session)));
}

static uint32_t clamp_ms(uint64_t ms) { return ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms; }

static bool half_closed(const struct lb_session *session) { return session->up.finished || session->down.finished; }

/* How much silence is allowed now. */
static uint32_t silence_ms(const struct lb_session *session) {
    uint32_t of_phase = 0;

    if (half_closed(session))
        return session->half_close_ms;
    switch ((enum lb_phase_name)session->phase.name) {
    case LB_PHASE_NEW:
        break;
    case LB_PHASE_WAIT:
        of_phase = session->response_ms;
        break;
    case LB_PHASE_STREAM:
        of_phase = session->stream_gap_ms;
        break;
    case LB_PHASE_QUIET:
        of_phase = session->keepalive_ms;
        break;
    }
    return of_phase > 0 ? of_phase : session->idle_ms;
}

static uint64_t silent_at_ms(const struct lb_session *session) {
    return session->last_ns / LB_NS_PER_MS + silence_ms(session);
}

static bool has_asked(const struct lb_session *session) { return session->phase.turns > 0; }

/* When the first byte is due: the client's, and from its last byte on the backend's. One from the backend settles it.
 */
static uint64_t first_byte_at_ms(const struct lb_session *session) {
    if (session->first_byte_ms == 0 || session->first_byte_us != UINT64_MAX || session->down.eof)
        return OFF;
    return (has_asked(session) ? session->phase.client_ns : session->last_ns) / LB_NS_PER_MS + session->first_byte_ms;
}

/* When the turn is over if nothing comes. Not while the client takes nothing: more of the answer may wait behind. */
static uint64_t turn_at_ms(const struct lb_session *session) {
    uint64_t at_ns = lb_phase_ends_ns(&session->phase);
    return at_ns == UINT64_MAX || !session->client.can_write ? OFF : at_ns / LB_NS_PER_MS + 1;
}

/* When a new session has missed the moment in which its first turn was expected. */
static uint64_t coming_at_ms(const struct lb_session *session) {
    return session->coming ? session->last_ns / LB_NS_PER_MS + LB_QUIET_FIRST_MS : OFF;
}

static bool is_quiet(const struct lb_session *session) {
    return session->state == LB_SESSION_RELAY && !session->coming && !lb_phase_busy(&session->phase) &&
           !lb_relay_holds(&session->up) && !lb_relay_holds(&session->down);
}

/* When a quiet session leaves a backend that is to be left. */
static uint64_t leave_at_ms(const struct lb_worker *worker, const struct lb_session *session) {
    if (!session->has_backend || !is_quiet(session) ||
        !atomic_load_explicit(&worker->shared->live.backends[session->backend].leaving, memory_order_relaxed))
        return OFF;
    return session->last_ns / LB_NS_PER_MS + LB_LEAVE_QUIET_MS;
}

static void arm_relay(struct lb_worker *worker, struct lb_session *session) {
    uint64_t at = LB_MIN(silent_at_ms(session), first_byte_at_ms(session));

    at = LB_MIN(at, leave_at_ms(worker, session));
    at = LB_MIN(at, turn_at_ms(session));
    at = LB_MIN(at, coming_at_ms(session));
    arm(worker, session, LB_MIN(at, session->interval_at_ms));
}

/* Deadlines that move away are looked at when the timer fires; only one that comes nearer has to be armed. */
static void arm_sooner(struct lb_worker *worker, struct lb_session *session, uint64_t at_ms) {
    if (!lb_timer_armed(&session->timer) || session->timer.expires_ms > at_ms)
        arm(worker, session, at_ms);
}

/* ---- accounts ---------------------------------------------------------------------------------------------------- */

static struct l4lb_backend_stats *backend_counters(struct lb_worker *worker, const struct lb_session *session) {
    return &worker->counters.backends[session->backend];
}

static struct lb_queue *queue_of(struct lb_worker *worker, const struct lb_session *session) {
    return &worker->shared->live.pools[session->pool].queue;
}

static struct lb_backend_live *backend_live(struct lb_worker *worker, const struct lb_session *session) {
    return &worker->shared->live.backends[session->backend];
}

static void set_counted(atomic_uint *count, bool *counted, bool wanted) {
    if (*counted == wanted)
        return;
    *counted = wanted;
    if (wanted)
        atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
    else
        atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
}

static void set_busy(struct lb_worker *worker, struct lb_session *session, bool busy) {
    bool ended = session->busy && !busy;

    set_counted(&backend_live(worker, session)->busy, &session->busy, busy);
    if (ended)
        lb_queue_call(queue_of(worker, session));
}

static void set_coming(struct lb_worker *worker, struct lb_session *session, bool coming) {
    set_counted(&backend_live(worker, session)->coming, &session->coming, coming);
}

static void leave_backend(struct lb_worker *worker, struct lb_session *session) {
    if (!session->has_backend)
        return;
    set_busy(worker, session, false);
    set_coming(worker, session, false);
    session->has_backend = false;
    lb_live_release(&backend_live(worker, session)->connections);
    lb_queue_call(queue_of(worker, session));
}

static void record(struct lb_worker *worker, const struct lb_session *session, enum l4lb_event_kind event,
                   enum l4lb_close close) {
    struct l4lb_session_record record;

    if (worker->snapshot == NULL || (worker->snapshot->events & (uint32_t)event) == 0)
        return;
    lb_session_describe(worker, session, &record);
    record.event = event;
    record.close = (uint8_t)close;
    lb_worker_record(worker, &record);
}

/* In the waiting room, until now. */
static uint32_t waited_us(const struct lb_worker *worker, const struct lb_session *session) {
    return (uint32_t)LB_MIN((worker->now_ns - session->attempt_ns) / LB_NS_PER_US, (uint64_t)UINT32_MAX);
}

void lb_session_describe(const struct lb_worker *worker, const struct lb_session *session,
                         struct l4lb_session_record *out) {
    static const uint8_t states[] = {[LB_SESSION_HEADER] = L4LB_SESSION_HEADER,
                                     [LB_SESSION_CONNECT] = L4LB_SESSION_CONNECT,
                                     [LB_SESSION_QUEUE] = L4LB_SESSION_QUEUE,
                                     [LB_SESSION_RELAY] = L4LB_SESSION_RELAY,
                                     [LB_SESSION_LINGER] = L4LB_SESSION_RELAY};
    uint64_t age_ns = worker->now_ns - session->started_ns;

    *out = (struct l4lb_session_record){
        .id = (uint64_t)worker->index << (LB_SESSION_INDEX_BITS + LB_SESSION_GENERATION_BITS) |
              (uint64_t)session->index << LB_SESSION_GENERATION_BITS | session->generation,
        .listener = session->listener,
        .pool = session->has_pool ? session->pool : UINT32_MAX,
        .backend = session->backend,
        .client = session->peer,
        .state = states[session->state],
        .path = session->up.spliced || session->down.spliced ? L4LB_PATH_SPLICE : L4LB_PATH_COPY,
        .retries = session->retries,
        .phase = session->phase.name,
        .turns = session->phase.turns,
        .started_ns = lb_clock_wall_ns() - age_ns,
        .duration_us = age_ns / LB_NS_PER_US,
        .queue_us = session->state == LB_SESSION_QUEUE ? waited_us(worker, session) : session->queue_us,
        .connect_us = session->connect_us == UINT32_MAX ? UINT64_MAX : session->connect_us,
        .first_byte_us = session->first_byte_us,
        .bytes_in = session->up.bytes,
        .bytes_out = session->down.bytes,
        .idle_us = (worker->now_ns - session->last_ns) / LB_NS_PER_US,
    };
}

/* ---- close ------------------------------------------------------------------------------------------------------- */

/* Out of the waiting room. A call that comes too late goes on to the next in line. */
static void leave_queue(struct lb_worker *worker, struct lb_session *session) {
    struct lb_waiting **at = &worker->called;

    if (session->waiting.state == LB_WAITING_OUT || !lb_queue_leave(queue_of(worker, session), &session->waiting))
        return;
    /* It is on the worker's list, in the mailbox, or being answered right now. */
    while (*at != NULL && (*at)->next != NULL)
        at = &(*at)->next;
    *(*at != NULL ? &(*at)->next : at) = lb_mailbox_take(&worker->cross.mailbox);
    for (at = &worker->called; *at != NULL; at = &(*at)->next) {
        if (*at == &session->waiting) {
            *at = session->waiting.next;
            break;
        }
    }
    lb_queue_call(queue_of(worker, session));
}

/* The one way out. */
static void dispose(struct lb_worker *worker, struct lb_session *session, bool reset_client, bool reset_server) {
    lb_relay_fini(&session->up, &worker->relays);
    lb_relay_fini(&session->down, &worker->relays);
    lb_list_remove(&session->ready);
    lb_timer_disarm(&worker->wheel, &session->timer);
    lb_sock_close(&session->client.fd, reset_client);
    lb_sock_close(&session->server.fd, reset_server);
    leave_backend(worker, session);
    leave_queue(worker, session);
    if (session->has_pool)
        lb_live_release(&worker->shared->live.pools[session->pool].sessions);
    lb_admission_release(worker->shared, session->listener);
    lb_count_sub(&worker->stats.sessions, 1);
    lb_session_table_give(&worker->sessions, session);
}

static void dispose_as(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason, bool reset_client,
                       bool reset_server) {
    if (session->has_pool) {
        lb_count_add(&worker->counters.pools[session->pool].closed[reason], 1);
        record(worker, session, L4LB_EVENT_CLOSE, reason);
    }
    dispose(worker, session, reset_client, reset_server);
}

static void reject(struct lb_worker *worker, struct lb_session *session, enum l4lb_reject reason) {
    lb_count_add(&worker->counters.listeners[session->listener].rejected[reason], 1);
    dispose(worker, session, false, false);
}

void lb_session_close(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason) {
    bool broken = session->state == LB_SESSION_LINGER;

    dispose_as(worker, session, reason, broken || lb_relay_holds(&session->down),
               broken || lb_relay_holds(&session->up));
}

void lb_session_kill(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason) {
    if (session->state == LB_SESSION_HEADER) {
        reject(worker, session, L4LB_REJECT_CLOSED);
        return;
    }
    if (reason == L4LB_CLOSE_KILLED && session->state == LB_SESSION_CONNECT)
        reason = L4LB_CLOSE_KILLED_CONNECT;
    if (reason == L4LB_CLOSE_KILLED && session->state == LB_SESSION_QUEUE)
        reason = L4LB_CLOSE_KILLED_QUEUE;
    lb_session_close(worker, session, reason);
}

/* ---- one side broke ---------------------------------------------------------------------------------------------- */

static struct lb_side *lingering_side(struct lb_session *session) {
    return session->client.fd >= 0 ? &session->client : &session->server;
}

/* Bytes that the kernel has sent or still has to send, and the peer has not acknowledged. */
static uint32_t unacknowledged(int fd) {
    int bytes = 0;
    return ioctl(fd, SIOCOUTQ, &bytes) == -1 || bytes < 0 ? 0 : (uint32_t)bytes;
}

static void linger(struct lb_worker *worker, struct lb_session *session) {
    struct lb_side *side = lingering_side(session);
    uint32_t bytes = side->reset || side->error ? 0 : unacknowledged(side->fd);
    uint64_t waited_ms;

    if (bytes < session->linger_bytes)
        session->last_ns = worker->now_ns;
    session->linger_bytes = bytes;
    waited_ms = (worker->now_ns - session->last_ns) / LB_NS_PER_MS;
    if (bytes == 0 || waited_ms >= session->half_close_ms || worker->now_ms >= session->lifetime_at_ms) {
        dispose_as(worker, session, (enum l4lb_close)session->close, true, true);
        return;
    }
    arm(worker, session,
        worker->now_ms + LB_MIN(LB_MAX((uint64_t)LINGER_LOOK_MS, waited_ms / LINGER_LOOK_SHARE),
                                session->half_close_ms - waited_ms));
}

/* Pass a reset on. A reset makes the kernel forget what it has not delivered, so first that must be acknowledged. */
static void break_off(struct lb_worker *worker, struct lb_session *session) {
    bool by_client = session->client.reset;

    if (session->client.reset && session->server.reset) {
        lb_session_close(worker, session, L4LB_CLOSE_CLIENT_ABORT);
        return;
    }
    session->close = by_client ? L4LB_CLOSE_CLIENT_ABORT : L4LB_CLOSE_SERVER_ABORT;
    session->state = LB_SESSION_LINGER;
    session->linger_bytes = UINT32_MAX;
    lb_list_remove(&session->ready);
    lb_relay_fini(&session->up, &worker->relays);
    lb_relay_fini(&session->down, &worker->relays);
    lb_sock_close(by_client ? &session->client.fd : &session->server.fd, false);
    linger(worker, session);
}

/* ---- relay ------------------------------------------------------------------------------------------------------- */

/* The phase changed, or may have. */
static void note_turn(struct lb_worker *worker, struct lb_session *session, unsigned events) {
    struct l4lb_backend_stats *counters = backend_counters(worker, session);

    set_busy(worker, session, lb_phase_busy(&session->phase));
    if ((events & LB_TURN_SINGLE) != 0)
        lb_pace_learn(&backend_live(worker, session)->pace, false);
    if ((events & LB_TURN_ENDED) != 0)
        lb_histogram_add(&counters->turn, session->phase.duration_ns / LB_NS_PER_US);
    if ((events & LB_TURN_BEGAN) != 0) {
        lb_count_add(&counters->turns_total, 1);
        set_coming(worker, session, false);
        if (session->phase.turns == 1 && session->first_byte_ms > 0)
            arm_relay(worker, session);
    }
}

static void note_latency(struct lb_worker *worker, const struct lb_session *session, uint64_t us) {
    lb_histogram_add(&backend_counters(worker, session)->first_byte, us);
    lb_latency_learn(&backend_live(worker, session)->latency, us, (uint32_t)worker->now_ms);
}

static void note_server_bytes(struct lb_worker *worker, struct lb_session *session, uint64_t bytes) {
    struct l4lb_backend_stats *counters = backend_counters(worker, session);
    uint64_t silence_us;
    unsigned events;

    lb_relay_end_run(&session->up);
    lb_count_add(&counters->received_bytes_total, bytes);
    if (session->first_byte_us == UINT64_MAX)
        session->first_byte_us = (worker->now_ns - session->started_ns) / LB_NS_PER_US;
    silence_us = (worker->now_ns - session->phase.server_ns) / LB_NS_PER_US;
    events = lb_phase_server(&session->phase, bytes, worker->now_ns);
    if ((events & LB_TURN_ANSWERED) != 0)
        session->phase.head_ms = lb_pace_head_ms(&backend_live(worker, session)->pace, (uint32_t)worker->now_ms);
    if ((events & LB_TURN_SECOND) != 0) {
        lb_latency_learn(&backend_live(worker, session)->pace.head, silence_us, (uint32_t)worker->now_ms);
        lb_pace_learn(&backend_live(worker, session)->pace, true);
    }
    if ((events & LB_TURN_ANSWERED) != 0)
        note_latency(worker, session, (worker->now_ns - session->phase.client_ns) / LB_NS_PER_US);
    if ((events & LB_TURN_GAP) != 0)
        lb_histogram_add(&counters->stream_gap, silence_us);
    note_turn(worker, session, events);
}

static void note_client_bytes(struct lb_worker *worker, struct lb_session *session, uint64_t bytes) {
    lb_relay_end_run(&session->down);
    lb_count_add(&backend_counters(worker, session)->sent_bytes_total, bytes);
    note_turn(worker, session, lb_phase_client(&session->phase, bytes, worker->now_ns));
}

/* The source has ended and all it sent is through: tell the sink. When the other direction is over too, closing the
 * sockets says it with one system call less. */
static void pass_end(struct lb_worker *worker, struct lb_session *session, struct lb_relay *relay, struct lb_side *sink,
                     const struct lb_relay *other) {
    if (relay->finished || relay->sink_gone || !lb_relay_over(relay))
        return;
    relay->finished = true;
    if (lb_relay_over(other))
        return;
    (void)shutdown(sink->fd, SHUT_WR);
    arm_relay(worker, session);
}

/* Act on what the relays found. The session may be gone after this. */
static void settle(struct lb_worker *worker, struct lb_session *session) {
    bool up_over = lb_relay_over(&session->up), down_over = lb_relay_over(&session->down);
    bool client_done, server_done;

    /* One that breaks after its FIN, or when its bytes have nowhere to go any more, is not read and so does not show
     * it. */
    session->client.reset = session->client.reset || (session->client.error && up_over);
    session->server.reset = session->server.reset || (session->server.error && down_over);
    /* A broken side is done with once what it sent is through; nothing can be delivered to it any more. */
    client_done = session->client.reset && up_over;
    server_done = session->server.reset && down_over;
    if (client_done || server_done) {
        break_off(worker, session);
        return;
    }
    if (up_over && down_over) {
        if (session->phase.pieces == 1)
            lb_pace_learn(&backend_live(worker, session)->pace, false);
        lb_session_close(worker, session, L4LB_CLOSE_NORMAL);
        return;
    }
    pass_end(worker, session, &session->up, &session->server, &session->down);
    pass_end(worker, session, &session->down, &session->client, &session->up);
}

static void run(struct lb_worker *worker, struct lb_session *session) {
    uint64_t up_before = session->up.bytes, down_before = session->down.bytes;
    enum lb_relay_result up, down;
    bool moved = false;

    up = lb_relay_run(&session->up, &session->client, &session->server, &worker->relays, &moved);
    down = lb_relay_run(&session->down, &session->server, &session->client, &worker->relays, &moved);
    /* Writing to the client found it broken: what it sent before is still to be read. */
    if (session->client.reset && !session->up.eof)
        up = lb_relay_run(&session->up, &session->client, &session->server, &worker->relays, &moved);

    if (moved)
        session->last_ns = worker->now_ns;
    else
        lb_count_add(&worker->stats.idle_wakeups_total, 1);
    if (session->down.bytes != down_before)
        note_server_bytes(worker, session, session->down.bytes - down_before);
    if (session->up.bytes != up_before)
        note_client_bytes(worker, session, session->up.bytes - up_before);

    /* Deadlines of the phase may have come nearer. */
    arm_sooner(worker, session, LB_MIN(turn_at_ms(session), silent_at_ms(session)));

    if (up == LB_RELAY_NOMEM || down == LB_RELAY_NOMEM) {
        dispose_as(worker, session, L4LB_CLOSE_RESOURCE, true, true);
        return;
    }
    if (up == LB_RELAY_AGAIN || down == LB_RELAY_AGAIN)
        lb_list_append(&worker->ready, &session->ready);
    settle(worker, session);
}

/* Whose turn was it? Of one that takes no bytes; else of one that has not finished yet; else of one that owes an
 * answer. */
static bool is_client_silent(const struct lb_session *session) {
    if (!session->client.can_write || !session->server.can_write)
        return !session->client.can_write;
    return half_closed(session) ? session->down.finished : !lb_phase_busy(&session->phase);
}

static enum l4lb_close silence_reason(const struct lb_session *session) {
    bool by_client = is_client_silent(session);

    if (half_closed(session))
        return by_client ? L4LB_CLOSE_CLIENT_HALF_CLOSE : L4LB_CLOSE_SERVER_HALF_CLOSE;
    if (session->phase.name == LB_PHASE_WAIT && session->response_ms > 0)
        return L4LB_CLOSE_SERVER_RESPONSE;
    if (session->phase.name == LB_PHASE_STREAM && session->stream_gap_ms > 0)
        return by_client ? L4LB_CLOSE_CLIENT_STREAM_GAP : L4LB_CLOSE_SERVER_STREAM_GAP;
    if (session->phase.name == LB_PHASE_QUIET && session->keepalive_ms > 0)
        return L4LB_CLOSE_CLIENT_KEEPALIVE;
    return by_client ? L4LB_CLOSE_CLIENT_IDLE : L4LB_CLOSE_SERVER_IDLE;
}

static void check_silence(struct lb_worker *worker, struct lb_session *session) {
    uint64_t now = worker->now_ms;

    if (now >= silent_at_ms(session)) {
        lb_session_close(worker, session, silence_reason(session));
        return;
    }
    if (now >= coming_at_ms(session))
        set_coming(worker, session, false);
    if (now >= turn_at_ms(session))
        note_turn(worker, session, lb_phase_expire(&session->phase, worker->now_ns));
    if (now >= over_at_ms(worker, session)) {
        lb_session_close(worker, session, L4LB_CLOSE_LIFETIME);
    } else if (now >= first_byte_at_ms(session)) {
        lb_session_close(worker, session,
                         has_asked(session) ? L4LB_CLOSE_SERVER_FIRST_BYTE : L4LB_CLOSE_CLIENT_FIRST_BYTE);
    } else if (now >= leave_at_ms(worker, session)) {
        lb_session_close(worker, session, L4LB_CLOSE_DRAINED);
    } else {
        if (now >= session->interval_at_ms) {
            record(worker, session, L4LB_EVENT_INTERVAL, L4LB_CLOSE_NORMAL);
            session->interval_at_ms = worker->snapshot->interval_ms > 0 ? now + worker->snapshot->interval_ms : OFF;
        }
        arm_relay(worker, session);
    }
}

bool lb_session_close_quiet(struct lb_worker *worker, struct lb_session *session, uint32_t quiet_ms,
                            enum l4lb_close reason) {
    if (!is_quiet(session) || worker->now_ms < session->last_ns / LB_NS_PER_MS + quiet_ms)
        return false;
    lb_session_close(worker, session, reason);
    return true;
}

bool lb_session_leave(struct lb_worker *worker, struct lb_session *session) {
    uint64_t at_ms = leave_at_ms(worker, session);

    if (worker->now_ms >= at_ms) {
        lb_session_close(worker, session, L4LB_CLOSE_DRAINED);
        return true;
    }
    if (at_ms != OFF)
        arm_sooner(worker, session, at_ms);
    return false;
}

/* ---- connect ----------------------------------------------------------------------------------------------------- */

/* True when all of the header is on its way. A fresh socket has room for it. */
static bool send_proxy_header(struct lb_session *session) {
    uint8_t header[LB_PROXY_BUILD_MAX];
    size_t len;

    if (session->destination.family == 0)
        lb_sock_local(session->client.fd, &session->destination);
    len = lb_proxy_build((enum l4lb_send_proxy)session->send_proxy, &session->peer, &session->destination, header);
    session->up.sent = true;
    return send(session->server.fd, header, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void connected(struct lb_worker *worker, struct lb_session *session) {
    uint64_t took_us = (worker->now_ns - session->attempt_ns) / LB_NS_PER_US;

    session->state = LB_SESSION_RELAY;
    session->last_ns = worker->now_ns;
    session->connect_us = (uint32_t)LB_MIN((worker->now_ns - session->started_ns) / LB_NS_PER_US, UINT32_MAX - 1ull);
    lb_histogram_add(&backend_counters(worker, session)->connect, took_us);
    if (worker->snapshot->interval_ms > 0 && (worker->snapshot->events & L4LB_EVENT_INTERVAL) != 0)
        session->interval_at_ms = worker->now_ms + worker->snapshot->interval_ms;
    record(worker, session, L4LB_EVENT_OPEN, L4LB_CLOSE_NORMAL);
    if (session->send_proxy != L4LB_SEND_PROXY_OFF && !send_proxy_header(session)) {
        lb_session_close(worker, session, L4LB_CLOSE_SERVER_ABORT);
        return;
    }
    arm_relay(worker, session);
    run(worker, session);
}

/* Is the attempt's error one of this host, not of the backend? */
static bool is_local_error(int error) {
    return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM || error == -EADDRNOTAVAIL;
}

static enum l4lb_close failure_reason(int error) {
    if (error == -ETIMEDOUT)
        return L4LB_CLOSE_CONNECT_TIMEOUT;
    return is_local_error(error) ? L4LB_CLOSE_RESOURCE : L4LB_CLOSE_CONNECT_FAILED;
}

static void count_failure(struct lb_worker *worker, const struct lb_session *session, int error) {
    struct l4lb_backend_stats *counters = backend_counters(worker, session);

    if (error == -ETIMEDOUT)
        lb_count_add(&counters->connect_timeouts_total, 1);
    else if (!is_local_error(error))
        lb_count_add(&counters->connect_failures_total, 1);
}

/* Does the next attempt go to the same backend? HAProxy's redispatch rules: a client that is bound to a backend by
 * its address leaves it only on the last retry or when it stopped taking sessions; any other goes elsewhere if there
 * is an elsewhere. */
static bool insists(const struct lb_session *session, const struct lb_pool *pool) {
    return lb_balance_is_affine(pool) && session->retries < pool->retries;
}

static int choose(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool) {
    struct lb_balance_request request = {.n_tried = LB_MIN(session->n_tried, (uint32_t)LB_TRIED_MAX),
                                         .last_tried = session->backend};
    size_t address_len = session->peer.family == AF_INET ? 4 : sizeof session->peer.address;

    if (session->n_tried > 0 && insists(session, pool)) {
        int at = lb_balance_retake(pool, session->backend);
        if (at >= 0)
            return at;
    }
    request.now_ms = (uint32_t)worker->now_ms;
    request.hash = lb_hash_bytes(session->peer.address, address_len, pool->hash_port ? session->peer.port : 0);
    memcpy(request.tried, session->tried, sizeof request.tried);
    return lb_balance_pick(pool, &request, &worker->rng);
}

static int attempt(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool,
                   const struct lb_backend *backend) {
    struct lb_poll_tag tag = {LB_POLL_SERVER, session->index, session->generation};
    int result;

    session->backend = backend->slot;
    session->has_backend = true;
    set_coming(worker, session, true);
    session->attempt_ns = worker->now_ns;
    session->send_proxy = (uint8_t)pool->send_proxy;
    lb_count_add(&backend_counters(worker, session)->connections_total, 1);
    result = lb_sock_connect((const struct sockaddr *)&backend->address, backend->address_len);
    if (result < 0)
        return result;
    session->server = (struct lb_side){.fd = result, .can_write = true};
    result = lb_poll_add(worker->epoll_fd, session->server.fd, SIDE_EVENTS, tag);
    if (result < 0) {
        lb_sock_close(&session->server.fd, false);
        return -ENOMEM;
    }
    arm(worker, session, worker->now_ms + pool->connect_ms);
    return 0;
}

/* An attempt failed. True when the next one may begin at once; else the session waits or is gone. */
static bool attempt_failed(struct lb_worker *worker, struct lb_session *session, int error, bool at_once) {
    const struct lb_pool *pool = lb_snapshot_pool(worker->snapshot, session->pool);
    bool exhausted = error == -EMFILE || error == -ENFILE;

    count_failure(worker, session, error);
    leave_backend(worker, session);
    lb_sock_close(&session->server.fd, false);
    session->close = (uint8_t)failure_reason(error);
    if (exhausted) /* No descriptors: let in nobody else for now. */
        worker->rest_until_ms = worker->now_ms + LB_ACCEPT_REST_MS;
    else
        session->tried[session->n_tried++ % LB_TRIED_MAX] = session->backend;
    if (pool == NULL || session->retries >= pool->retries) {
        lb_session_close(worker, session, (enum l4lb_close)session->close);
        return false;
    }
    at_once = at_once || (!insists(session, pool) && pool->n_usable > 1);
    session->retries++;
    lb_count_add(&backend_counters(worker, session)->retries_total, 1);
    if (at_once && !exhausted)
        return true;
    arm(worker, session, worker->now_ms + LB_MIN((uint64_t)LB_RETRY_WAIT_MS, pool->connect_ms));
    return false;
}

/* ---- waiting room --------------------------------------------------------------------------------------------------
 */

static bool may_wait(const struct lb_session *session, const struct lb_pool *pool) {
    return pool != NULL && pool->queue_size > 0 && session->n_tried == 0;
}

/* Somebody was here first. */
static bool must_wait(const struct lb_session *session, const struct lb_pool *pool) {
    return may_wait(session, pool) && session->state != LB_SESSION_QUEUE && lb_queue_length(&pool->live->queue) > 0;
}

static void wait_in_line(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool) {
    struct lb_queue *queue = &pool->live->queue;

    if (session->state == LB_SESSION_QUEUE) {
        lb_queue_return(queue, &session->waiting);
    } else {
        if (!lb_queue_enter(queue, &session->waiting, &worker->cross.mailbox, pool->queue_size)) {
            lb_session_close(worker, session, L4LB_CLOSE_QUEUE_FULL);
            return;
        }
        session->state = LB_SESSION_QUEUE;
        session->attempt_ns = worker->now_ns;
        arm(worker, session, worker->now_ms + pool->queue_ms);
    }
    /* A place that came free before we were in line has called nobody. */
    if (lb_balance_has_place(pool))
        lb_queue_call(queue);
}

/* A place was found. There may be more, for the next in line. */
static void end_waiting(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool) {
    if (session->state != LB_SESSION_QUEUE)
        return;
    session->queue_us = waited_us(worker, session);
    lb_histogram_add(&worker->counters.pools[session->pool].queue, session->queue_us);
    (void)!lb_queue_leave(&pool->live->queue, &session->waiting);
    session->state = LB_SESSION_CONNECT;
    lb_queue_call(&pool->live->queue);
}

static void connect_next(struct lb_worker *worker, struct lb_session *session) {
    for (;;) {
        const struct lb_pool *pool = lb_snapshot_pool(worker->snapshot, session->pool);
        int at = pool != NULL && !must_wait(session, pool) ? choose(worker, session, pool) : -EAGAIN;
        int result;

        if (at < 0 && may_wait(session, pool)) {
            wait_in_line(worker, session, pool);
            return;
        }
        if (at < 0) {
            lb_session_close(worker, session, (enum l4lb_close)session->close);
            return;
        }
        end_waiting(worker, session, pool);
        result = attempt(worker, session, pool, &pool->backends[at]);
        if (result == 0 || !attempt_failed(worker, session, result, true))
            return;
    }
}

void lb_session_called(struct lb_worker *worker, struct lb_waiting *entry) {
    connect_next(worker, container_of(entry, struct lb_session, waiting));
}

/* Has the client left? One that only finished its question may still wait for the answer. */
static bool has_left(struct lb_session *session, uint32_t events) {
    uint8_t byte;

    if ((events & EPOLLERR) != 0)
        return true;
    return session->client.hup && recv(session->client.fd, &byte, 1, MSG_PEEK) == 0;
}

/* epoll woke a connecting socket. Reading settles what happened without losing anything: data, a FIN or nothing means
 * it was connected (SO_ERROR would swallow a reset that came after the data); an error is the attempt's. */
static void connect_event(struct lb_worker *worker, struct lb_session *session, uint32_t events) {
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        uint8_t byte;
        if (recv(session->server.fd, &byte, 1, MSG_PEEK) == -1 && errno != EAGAIN) {
            if (attempt_failed(worker, session, -errno, false))
                connect_next(worker, session);
            return;
        }
    } else if ((events & EPOLLOUT) == 0) {
        return;
    }
    connected(worker, session);
}

/* ---- begin ------------------------------------------------------------------------------------------------------- */

static void start(struct lb_worker *worker, struct lb_session *session, const struct lb_listener *listener) {
    const struct lb_pool *pool = &worker->snapshot->pools[listener->pool];

    session->pool = pool->slot;
    session->has_pool = true;
    atomic_fetch_add(&pool->live->sessions, 1);
    session->idle_ms = clamp_ms(pool->idle_ms);
    session->half_close_ms = clamp_ms(pool->half_close_ms);
    session->first_byte_ms = clamp_ms(pool->first_byte_ms);
    session->response_ms = clamp_ms(pool->response_ms);
    session->stream_gap_ms = clamp_ms(pool->stream_gap_ms);
    session->keepalive_ms = clamp_ms(pool->keepalive_ms);
    if (pool->lifetime_ms > 0)
        session->lifetime_at_ms = session->started_ns / LB_NS_PER_MS + pool->lifetime_ms;
    session->state = LB_SESSION_CONNECT;
    session->close = L4LB_CLOSE_NO_BACKEND;
    connect_next(worker, session);
}

/* The header is looked at until it is whole and only then taken, so that not one byte behind it is touched. */
static void read_header(struct lb_worker *worker, struct lb_session *session) {
    const struct lb_listener *listener = lb_snapshot_listener(worker->snapshot, session->listener);
    struct lb_side *client = &session->client;
    ssize_t seen = recv(client->fd, worker->relays.scratch, LB_PROXY_HEADER_MAX, MSG_PEEK);
    struct lb_proxy_header header;
    int len;

    if (seen == -1 && errno == EAGAIN)
        return;
    if (listener == NULL) {
        reject(worker, session, L4LB_REJECT_CLOSED);
        return;
    }
    len = seen > 0 ? lb_proxy_parse(worker->relays.scratch, (size_t)seen, &header) : -EPROTO;
    if (len == 0 && !client->hup)
        return;
    if (len <= 0 || recv(client->fd, worker->relays.scratch, (size_t)len, 0) != len) {
        reject(worker, session, L4LB_REJECT_PROXY_INVALID);
        return;
    }
    if (!header.local && header.source.family != 0) {
        session->peer = header.source;
        session->destination = header.destination;
    }
    if (!lb_admission_permits(listener, &session->peer)) {
        reject(worker, session, L4LB_REJECT_DENIED);
        return;
    }
    start(worker, session, listener);
}

void lb_session_open(struct lb_worker *worker, const struct lb_listener *listener, int fd,
                     const struct l4lb_endpoint *peer, bool expects_header) {
    struct lb_session *session = lb_session_table_take(&worker->sessions);
    struct lb_poll_tag tag = {.kind = LB_POLL_CLIENT};

    if (session == NULL) {
        lb_count_add(&worker->counters.listeners[listener->slot].rejected[L4LB_REJECT_RESOURCE], 1);
        lb_sock_close(&fd, false);
        lb_admission_release(worker->shared, listener->slot);
        return;
    }
    session->state = LB_SESSION_HEADER;
    session->client = (struct lb_side){.fd = fd, .can_write = true, .nodelay = true};
    session->server = (struct lb_side){.fd = -1};
    lb_relay_init(&session->up, true);
    lb_relay_init(&session->down, false);
    lb_list_init(&session->ready);
    lb_timer_init(&session->timer);
    lb_phase_init(&session->phase);
    session->listener = listener->slot;
    session->backend = UINT32_MAX;
    session->peer = *peer;
    session->started_ns = session->last_ns = worker->now_ns;
    session->lifetime_at_ms = session->interval_at_ms = OFF;
    session->connect_us = UINT32_MAX;
    session->first_byte_us = UINT64_MAX;
    lb_count_add(&worker->stats.sessions, 1);

    tag.number = session->index;
    tag.generation = session->generation;
    if (lb_poll_add(worker->epoll_fd, fd, SIDE_EVENTS, tag) < 0) {
        reject(worker, session, L4LB_REJECT_RESOURCE);
        return;
    }
    if (expects_header)
        arm(worker, session, worker->now_ms + listener->proxy_timeout_ms);
    else
        start(worker, session, listener);
}

/* ---- what happens ------------------------------------------------------------------------------------------------ */

void lb_session_event(struct lb_worker *worker, struct lb_session *session, enum lb_side_name name, uint32_t events) {
    struct lb_side *side = name == LB_CLIENT ? &session->client : &session->server;

    if ((events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        side->can_read = true;
    if ((events & EPOLLPRI) != 0)
        side->urgent = true;
    if ((events & EPOLLERR) != 0)
        side->error = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        side->hup = true;
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
        side->can_write = true;

    switch (session->state) {
    case LB_SESSION_HEADER:
        read_header(worker, session);
        break;
    case LB_SESSION_CONNECT:
        if (name == LB_SERVER)
            connect_event(worker, session, events);
        else if ((events & EPOLLERR) != 0)
            dispose_as(worker, session, L4LB_CLOSE_CLIENT_ABORT_CONNECT, false, true);
        break;
    case LB_SESSION_QUEUE:
        if (has_left(session, events))
            lb_session_close(worker, session, L4LB_CLOSE_CLIENT_ABORT_QUEUE);
        break;
    case LB_SESSION_RELAY:
        run(worker, session);
        break;
    case LB_SESSION_LINGER:
        linger(worker, session);
        break;
    case LB_SESSION_FREE:
        LB_BUG_ON(true);
    }
}

void lb_session_resume(struct lb_worker *worker, struct lb_session *session) { run(worker, session); }

void lb_session_timer(struct lb_worker *worker, struct lb_session *session) {
    switch (session->state) {
    case LB_SESSION_HEADER:
        reject(worker, session, L4LB_REJECT_PROXY_TIMEOUT);
        break;
    case LB_SESSION_CONNECT:
        if (worker->now_ms >= session->lifetime_at_ms)
            lb_session_close(worker, session, L4LB_CLOSE_LIFETIME);
        else if (session->server.fd < 0 || attempt_failed(worker, session, -ETIMEDOUT, false))
            connect_next(worker, session);
        break;
    case LB_SESSION_QUEUE:
        lb_session_close(worker, session,
                         worker->now_ms >= session->lifetime_at_ms ? L4LB_CLOSE_LIFETIME : L4LB_CLOSE_QUEUE_TIMEOUT);
        break;
    case LB_SESSION_RELAY:
        check_silence(worker, session);
        break;
    case LB_SESSION_LINGER:
        linger(worker, session);
        break;
    case LB_SESSION_FREE:
        LB_BUG_ON(true);
    }
}

void lb_session_quieten(struct lb_worker *worker, struct lb_relay *relay) {
    struct lb_session *session =
        relay->from_client ? container_of(relay, struct lb_session, up) : container_of(relay, struct lb_session, down);

    lb_relay_quieten(relay, relay->from_client ? &session->client : &session->server, &worker->relays);
}
