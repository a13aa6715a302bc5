/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/http1_field.h"

#include "protocol/http1_text.h"

#define LENGTH_MAX ((uint64_t)INT64_MAX)

enum {
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TRANSFER_ENCODING,
    WWW_AUTHENTICATE
};
enum { CHUNKED, CLOSE, KEEP_ALIVE, NEGOTIATE, NTLM };

static const struct lb_word fields[] = {
    [AUTHORIZATION] = {"authorization", 0},
    [CONNECTION] = {"connection", 0},
    [CONTENT_LENGTH] = {"content-length", 3},
    [PROXY_AUTHENTICATE] = {"proxy-authenticate", 0},
    [PROXY_AUTHORIZATION] = {"proxy-authorization", 10},
    [PROXY_CONNECTION] = {"proxy-connection", 6},
    [TRANSFER_ENCODING] = {"transfer-encoding", 0},
    [WWW_AUTHENTICATE] = {"www-authenticate", 0},
    {NULL, 0},
};

static const struct lb_word values[] = {
    [CHUNKED] = {"chunked", 0},     [CLOSE] = {"close", 1}, [KEEP_ALIVE] = {"keep-alive", 0},
    [NEGOTIATE] = {"negotiate", 0}, [NTLM] = {"ntlm", 1},   {NULL, 0},
};

/* ---- names ------------------------------------------------------------------------------------------------------- */

static enum lb_http1_event take_line_lf(struct lb_http1 *reader, struct bytes *in) {
    return expect(reader, in, '\n', NAME_FIRST);
}

/* Each of these names has a key of its own. */
#define KEY(len, letter) (((len) ^ (letter)) & 31)

/* By the key of their length and first letter: a field plus 1; 0 = none. */
static const uint8_t field_of_key[32] = {
    [KEY(10, 'c')] = CONNECTION + 1,         [KEY(13, 'a')] = AUTHORIZATION + 1,
    [KEY(14, 'c')] = CONTENT_LENGTH + 1,     [KEY(16, 'p')] = PROXY_CONNECTION + 1,
    [KEY(16, 'w')] = WWW_AUTHENTICATE + 1,   [KEY(17, 't')] = TRANSFER_ENCODING + 1,
    [KEY(18, 'p')] = PROXY_AUTHENTICATE + 1, [KEY(19, 'p')] = PROXY_AUTHORIZATION + 1,
};

/* The field with this name, or LB_WORD_UNKNOWN. */
static uint8_t field_of(const uint8_t *name, size_t len) {
    uint8_t field = field_of_key[KEY(len, *name)];
    const char *text;

    if (field == 0)
        return LB_WORD_UNKNOWN;
    text = fields[field - 1].text;
    for (size_t i = 0; i < len; i++) {
        if (lb_token[name[i]] != (uint8_t)text[i])
            return LB_WORD_UNKNOWN;
    }
    return text[len] == '\0' ? field - 1 : LB_WORD_UNKNOWN;
}

/* Skip whole lines that decide nothing, which are most of a head. Returns the field of the next line, with `in` behind
 * its colon; LB_WORD_UNKNOWN if that line is not complete or is no plain field line: the states read it. */
static uint8_t skip_to_field(struct bytes *in) {
    for (;;) {
        const uint8_t *at = in->at;
        uint8_t field;

        while (at < in->end && lb_is_token(*at))
            at++;
        if (at == in->at || at == in->end || *at != ':')
            return LB_WORD_UNKNOWN;
        field = field_of(in->at, (size_t)(at - in->at));
        if (field != LB_WORD_UNKNOWN) {
            in->at = at + 1;
            return field;
        }
        at = lb_text_end(at, in->end);
        if (in->end - at < 2 || at[0] != '\r' || at[1] != '\n')
            return LB_WORD_UNKNOWN;
        in->at = at + 2;
    }
}

static enum lb_http1_event begin_value(struct lb_http1 *reader, uint8_t field) {
    reader->field = field;
    if (field == LB_WORD_UNKNOWN)
        return go_on(reader, OTHER_VALUE);
    if (reader->in_trailers) /* some servers let trailers change the head */
        return pin(reader, L4LB_PIN_SYNTAX);
    switch (field) {
    case CONTENT_LENGTH:
        if (reader->has_length)
            return pin(reader, L4LB_PIN_LENGTH);
        reader->has_length = true;
        return go_on(reader, NUMBER);
    case PROXY_AUTHENTICATE:
    case WWW_AUTHENTICATE:
        return go_on(reader, reader->is_response ? LIST : OTHER_VALUE);
    case AUTHORIZATION:
    case PROXY_AUTHORIZATION:
        return go_on(reader, reader->is_response ? OTHER_VALUE : LIST);
    default:
        return go_on(reader, LIST);
    }
}

static enum lb_http1_event take_name_first(struct lb_http1 *reader, struct bytes *in) {
    uint8_t field = skip_to_field(in);

    if (field != LB_WORD_UNKNOWN)
        return begin_value(reader, field);
    if (in->at == in->end)
        return LB_HTTP1_MORE;
    if (*in->at == '\r') {
        in->at++;
        return go_on(reader, HEAD_LF);
    }
    if (!lb_is_token(*in->at))
        return refuse(reader, in, L4LB_PIN_SYNTAX);
    reader->word = (struct lb_word_match){0};
    return go_on(reader, NAME);
}

static enum lb_http1_event take_name(struct lb_http1 *reader, struct bytes *in) {
    in->at = lb_word_take(&reader->word, fields, in->at, in->end);
    if (in->at == in->end)
        return LB_HTTP1_MORE;
    return *in->at++ == ':' ? begin_value(reader, lb_word_matched(reader->word, fields)) : pin(reader, L4LB_PIN_SYNTAX);
}

static enum lb_http1_event take_other_value(struct lb_http1 *reader, struct bytes *in) {
    return lb_http1_take_text(reader, in, LINE_LF);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static bool is_length(const struct lb_http1 *reader) {
    return reader->field == CONTENT_LENGTH || reader->field == TRANSFER_ENCODING;
}

/* llhttp takes Proxy-Connection for Connection. */
static bool is_persistence(const struct lb_http1 *reader) {
    return reader->field == CONNECTION || reader->field == PROXY_CONNECTION;
}

/* llhttp takes a tab after a coding for a part of it. */
static bool is_blank(const struct lb_http1 *reader, uint8_t byte) {
    return byte == ' ' || (byte == '\t' && !is_length(reader));
}

static enum lb_http1_event bad_value(struct lb_http1 *reader, struct bytes *in) {
    bool is_text = *in->at >= ' ' || *in->at == '\t' || *in->at == '\r';
    return refuse(reader, in, is_length(reader) && is_text ? L4LB_PIN_LENGTH : L4LB_PIN_SYNTAX);
}

static enum lb_http1_event take_number(struct lb_http1 *reader, struct bytes *in) {
    for (; in->at < in->end; in->at++) {
        uint8_t digit = (uint8_t)(*in->at - '0');
        if (digit > 9 && reader->at > 0)
            return go_on(reader, VALUE_END);
        if (digit > 9 && is_blank(reader, *in->at))
            continue;
        if (digit > 9)
            return bad_value(reader, in);
        reader->at = 1;
        if (reader->left > (LENGTH_MAX - digit) / 10)
            return refuse(reader, in, L4LB_PIN_LENGTH);
        reader->left = reader->left * 10 + digit;
    }
    return LB_HTTP1_MORE;
}

/* Before an element of a list. Elements may be empty, except that a coding has to be there. */
static enum lb_http1_event take_list(struct lb_http1 *reader, struct bytes *in) {
    uint8_t byte = *in->at;

    if (lb_is_token(byte)) {
        reader->word = (struct lb_word_match){0};
        return go_on(reader, WORD);
    }
    if (!is_blank(reader, byte) && (is_length(reader) || (byte != ',' && byte != '\r')))
        return bad_value(reader, in);
    in->at++;
    return byte == '\r' ? go_on(reader, LINE_LF) : LB_HTTP1_MORE;
}

static enum lb_http1_event end_word(struct lb_http1 *reader, struct bytes *in) {
    uint8_t word = lb_word_matched(reader->word, values);

    if (reader->field == TRANSFER_ENCODING) {
        if (word != CHUNKED || reader->is_chunked)
            return refuse(reader, in, L4LB_PIN_LENGTH);
        reader->is_chunked = true;
    } else if (is_persistence(reader)) {
        reader->says_close |= word == CLOSE;
        reader->says_keep_alive |= word == KEEP_ALIVE && reader->field == CONNECTION;
    } else if (word == NEGOTIATE || word == NTLM) {
        return refuse(reader, in, L4LB_PIN_CREDENTIAL);
    } else if (!reader->is_response) {
        return go_on(reader, OTHER_VALUE); /* a request has one credential, a response may offer several */
    }
    return go_on(reader, VALUE_END);
}

static enum lb_http1_event take_word(struct lb_http1 *reader, struct bytes *in) {
    in->at = lb_word_take(&reader->word, values, in->at, in->end);
    return in->at == in->end ? LB_HTTP1_MORE : end_word(reader, in);
}

/* After a number or the word of an element. The parameters of a credential are skipped. A comma within quotes begins an
 * element too: "Basic realm="a, NTLM"" pins a session in vain. */
static enum lb_http1_event take_value_end(struct lb_http1 *reader, struct bytes *in) {
    bool has_parameters = !is_length(reader) && !is_persistence(reader);
    uint8_t byte = *in->at;

    if (!is_blank(reader, byte) && byte != '\r' && (byte != ',' || is_length(reader)) &&
        (byte < ' ' || !has_parameters))
        return bad_value(reader, in);
    in->at++;
    if (byte == '\r')
        return go_on(reader, LINE_LF);
    return byte == ',' ? go_on(reader, LIST) : LB_HTTP1_MORE;
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

enum lb_http1_event lb_http1_take_text(struct lb_http1 *reader, struct bytes *in, enum state next) {
    for (;;) {
        in->at = lb_text_end(in->at, in->end);
        if (in->at == in->end)
            return LB_HTTP1_MORE;
        if (*in->at != '\t')
            return expect(reader, in, '\r', next);
        in->at++;
    }
}

enum lb_http1_event lb_http1_take_fields(struct lb_http1 *reader, struct bytes *in) {
    static enum lb_http1_event (*const takers[N_FIELD_STATES])(struct lb_http1 *, struct bytes *) = {
        [LINE_LF] = take_line_lf, [NAME_FIRST] = take_name_first,
        [NAME] = take_name,       [OTHER_VALUE] = take_other_value,
        [NUMBER] = take_number,   [LIST] = take_list,
        [WORD] = take_word,       [VALUE_END] = take_value_end};
    enum lb_http1_event event = LB_HTTP1_MORE;

    while (event == LB_HTTP1_MORE && reader->state < N_FIELD_STATES && in->at < in->end)
        event = takers[reader->state](reader, in);
    return event;
}
