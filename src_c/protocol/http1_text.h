/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_text - tokens, known words and the text of lines, in bytes that come in pieces.
 *
 * Owner:   pure.
 * Holds:   no read at or beyond `end`; the work is linear. A word is the same word, however its letters are split.
 * Source:  RFC 9110 §5.6.2 (tokens), RFC 9112 §2.2 (lines).
 */
#ifndef LB_HTTP1_TEXT_H
#define LB_HTTP1_TEXT_H

#include <stdbool.h>
#include <stdint.h>

/* The bytes of tokens in lower case, 0 for all others. */
extern const uint8_t lb_token[256];

static inline bool lb_is_token(uint8_t byte) { return lb_token[byte] != 0; }

/* A sorted table of these ends with a NULL. Letters in lower case match in any case, others as they are. */
struct lb_word {
    const char *text;
    uint8_t shared; /* how many of its first letters are those of the word before */
};

enum { LB_WORD_UNKNOWN = UINT8_MAX };

/* The letters of a word that have come so far. Zeroed before the first. */
struct lb_word_match {
    uint8_t word; /* index of the first word that begins with them, or LB_WORD_UNKNOWN */
    uint8_t letters;
};

/* Take the letters of a token. Returns the byte that ends it, or `end`. */
const uint8_t *lb_word_take(struct lb_word_match *match, const struct lb_word *words, const uint8_t *at,
                            const uint8_t *end);

/* The word of the table that these letters spell, or LB_WORD_UNKNOWN. */
static inline uint8_t lb_word_matched(struct lb_word_match match, const struct lb_word *words) {
    return match.word != LB_WORD_UNKNOWN && words[match.word].text[match.letters] == '\0' ? match.word
                                                                                          : LB_WORD_UNKNOWN;
}

/* The first control byte, which a tab is too, or `end`. */
const uint8_t *lb_text_end(const uint8_t *at, const uint8_t *end);

/* The first control byte or space, or `end`. */
const uint8_t *lb_visible_end(const uint8_t *at, const uint8_t *end);

#endif
