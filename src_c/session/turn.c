/* SPDX-License-Identifier: Apache-2.0 */
#include "session/turn.h"

#include "base/base.h"
#include "base/bounds.h"
#include "base/clock.h"
#include "base/count.h"
#include "base/histogram.h"
#include "protocol/response_end.h"
#include "relay/path_splice.h"
#include "session/account.h"
#include "session/deadline.h"

/* The backend may be warm after this response. Rare, and so out of line. */
__attribute__((cold)) static void warm(struct lb_worker *worker, const struct lb_session *session) {
    if (lb_backend_responded(lb_account_shared(worker, session)))
        lb_queue_grant(lb_account_queue(worker, session));
}

static void count(struct lb_worker *worker, struct lb_session *session, unsigned events) {
    struct l4lb_backend_stats *counters;

    if ((events & LB_TURN_ENDED) != 0 && lb_backend_is_cold(lb_account_shared(worker, session)))
        warm(worker, session);
    counters = lb_account_counters(worker, session);
    if ((events & LB_TURN_ENDED) != 0)
        lb_histogram_add(&counters->turn, session->phase.duration_ns / LB_NS_PER_US);
    if ((events & LB_TURN_BEGAN) != 0) {
        lb_count_add(&counters->turns_total, 1);
        lb_claim_end_reservation(&session->claim, &worker->runtime->shared);
    }
}

/* The phase changed, or may have. */
static void note(struct lb_worker *worker, struct lb_session *session, unsigned events) {
    lb_claim_set_busy(&session->claim, &worker->runtime->shared, lb_phase_busy(&session->phase));
    if ((events & (LB_TURN_BEGAN | LB_TURN_ENDED)) != 0)
        count(worker, session, events);
}

/* The time until the client had something to read. A response head that comes alone does not count. */
static void learn_latency(struct lb_worker *worker, struct lb_session *session, uint64_t waited_us,
                          struct lb_piece before, enum lb_end expected) {
    bool after_head = before.ordinal == 1 && expected == LB_END_NOT_LAST;
    bool head = before.ordinal == 0 && session->phase.expected == LB_END_NOT_LAST;

    if (after_head || (before.ordinal == 0 && !head))
        lb_latency_learn(&lb_account_shared(worker, session)->latency, waited_us, worker->now_ms);
}

void lb_turn_server_bytes(struct lb_worker *worker, struct lb_session *session, uint64_t bytes, bool more) {
    struct l4lb_backend_stats *counters = lb_account_counters(worker, session);
    struct lb_end_model *model = lb_account_end_model(worker, session);
    struct lb_phase *phase = &session->phase;
    enum lb_end expected = (enum lb_end)phase->expected;
    struct lb_piece before = phase->piece;
    uint64_t silence_us = (worker->now_ns - phase->server_ns) / LB_NS_PER_US;
    uint64_t waited_us = (worker->now_ns - phase->client_ns) / LB_NS_PER_US;
    bool is_noise = lb_h2_follows(&session->up.h2) && phase->state == LB_PHASE_IDLE && bytes < LB_NOISE_BYTES;
    unsigned events = lb_phase_server(phase, bytes, more, worker->now_ns);

    if (!is_noise) /* such as a PING of HTTP/2, which belongs to no response */
        lb_phase_pace(phase, bytes, more || !session->client.can_write, worker->now_ns);
    lb_path_splice_end_run(&session->up);
    lb_count_add(&counters->received_bytes_total, bytes);
    if (session->first_byte_us == UINT64_MAX)
        session->first_byte_us = (worker->now_ns - session->started_ns) / LB_NS_PER_US;
    if (!session->responded) {
        session->responded = true;
        lb_count_add(&counters->responded_total, 1);
    }
    if ((events & LB_TURN_PIECE) != 0) {
        phase->expected = (more ? LB_END_UNKNOWN : lb_end_model_predict(model, phase->piece)) & 3;
        learn_latency(worker, session, waited_us, before, expected);
    }
    if ((events & LB_TURN_CONTINUED) != 0) {
        lb_end_model_learn(model, before, false);
        lb_histogram_add(&counters->stream_gap, silence_us);
    }
    if ((events & LB_TURN_RESPONDED) != 0)
        lb_histogram_add(&counters->first_byte, waited_us);
    note(worker, session, events);
    if (phase->expected == LB_END_LAST && session->client.can_write)
        note(worker, session, lb_phase_expire(phase, worker->now_ns));
}

void lb_turn_client_bytes(struct lb_worker *worker, struct lb_session *session, uint64_t bytes) {
    struct lb_piece before = session->phase.piece;
    /* Where every message is a request, short ones are too. */
    uint64_t size = session->up.h2.state == LB_H2_REQUESTS ? LB_MAX(bytes, (uint64_t)LB_NOISE_BYTES) : bytes;
    unsigned events = session->up.may_request ? lb_phase_client(&session->phase, size, worker->now_ns) : 0;

    session->up.may_request = false;
    lb_path_splice_end_run(&session->down);
    lb_count_add(&lb_account_counters(worker, session)->sent_bytes_total, bytes);
    if ((events & LB_TURN_PROVEN) != 0)
        lb_end_model_learn(lb_account_end_model(worker, session), before, true);
    note(worker, session, events);
}

void lb_turn_expire(struct lb_worker *worker, struct lb_session *session) {
    if (worker->now_ms >= lb_deadline_turn_ms(session))
        note(worker, session, lb_phase_expire(&session->phase, worker->now_ns));
}

void lb_turn_end(struct lb_worker *worker, struct lb_session *session) {
    struct lb_phase *phase = &session->phase;

    /* After the client's FIN, the backend may have cut the response short, so its end proves nothing. */
    if (phase->piece.ordinal > 0 && !session->up.finished)
        lb_end_model_learn(lb_account_end_model(worker, session), phase->piece, true);
    note(worker, session, lb_phase_end(phase));
}
