/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_field - the field lines of a head of HTTP/1, or of trailers, for http1.c. Only http1.c and http1_field.c
 * include this.
 *
 * A line that decides nothing has its syntax checked: a name that is a token, the colon right after it, no control byte
 * but tabs, CR LF at its end. Values that decide are stored in the reader. Trailers must not have any.
 *
 * Owner:   pure; the state is in the reader.
 * Errors:  UNUSUAL for what two parsers might read in two ways, with the byte that shows it.
 * Source:  RFC 9112 §5 (lines), §6.1 and §6.2 (lengths), §9.3 (persistence); RFC 9110 §5.6.1 (lists); RFC 4559
 *          (Negotiate).
 */
#ifndef LB_HTTP1_FIELD_H
#define LB_HTTP1_FIELD_H

#include "protocol/http1_state.h"

/* Each takes at least one byte or goes on to another one. */
enum state {
    /* within the fields of a head or of trailers: http1_field.c */
    LINE_LF,
    NAME_FIRST,
    NAME,
    OTHER_VALUE,
    NUMBER,
    LIST,
    WORD,
    VALUE_END,
    N_FIELD_STATES,
    /* elsewhere in a head, in the line of a chunk or in trailers */
    METHOD = N_FIELD_STATES,
    TARGET,
    VERSION,
    VERSION_END,
    STATUS,
    STATUS_END,
    HEAD_LF,
    CHUNK_FIRST,
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_LF,
    DATA_CR,
    DATA_LF,
    N_LINE_STATES,
    /* elsewhere */
    BETWEEN = N_LINE_STATES,
    EMPTY_LF,
    BODY,
    CHUNK_DATA,
    UNTIL_CLOSE,
    COMPLETE, /* END is to be reported */
    LOST,
    N_STATES
};

struct bytes {
    const uint8_t *at, *end;
};

static inline enum lb_http1_event pin(struct lb_http1 *reader, enum l4lb_pin why) {
    reader->pin = (uint8_t)why;
    reader->state = LOST;
    return LB_HTTP1_UNUSUAL;
}

static inline enum lb_http1_event go_on(struct lb_http1 *reader, enum state state) {
    reader->state = (uint8_t)state;
    reader->at = 0;
    return LB_HTTP1_MORE;
}

/* The next byte shows why. */
static inline enum lb_http1_event refuse(struct lb_http1 *reader, struct bytes *in, enum l4lb_pin why) {
    in->at++;
    return pin(reader, why);
}

/* The next byte must be this one. */
static inline enum lb_http1_event expect(struct lb_http1 *reader, struct bytes *in, uint8_t byte, enum state next) {
    return *in->at++ == byte ? go_on(reader, next) : pin(reader, L4LB_PIN_SYNTAX);
}

/* Take the bytes of field lines, up to the CR of the empty line after them. */
enum lb_http1_event lb_http1_take_fields(struct lb_http1 *reader, struct bytes *in);

/* Take the rest of a line that decides nothing, up to its CR. */
enum lb_http1_event lb_http1_take_text(struct lb_http1 *reader, struct bytes *in, enum state next);

#endif
