/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/http1_text.h"

#include <endian.h>
#include <stddef.h>
#include <string.h>

#define SAME(c) [c] = (c)
#define LETTER(c) [(c) - 'a' + 'A'] = (c), [c] = (c)

/* clang-format off */
const uint8_t lb_token[256] = {
    SAME('!'), SAME('#'), SAME('$'), SAME('%'), SAME('&'), SAME('\''), SAME('*'), SAME('+'), SAME('-'), SAME('.'),
    SAME('^'), SAME('_'), SAME('`'), SAME('|'), SAME('~'),
    SAME('0'), SAME('1'), SAME('2'), SAME('3'), SAME('4'), SAME('5'), SAME('6'), SAME('7'), SAME('8'), SAME('9'),
    LETTER('a'), LETTER('b'), LETTER('c'), LETTER('d'), LETTER('e'), LETTER('f'), LETTER('g'), LETTER('h'), LETTER('i'),
    LETTER('j'), LETTER('k'), LETTER('l'), LETTER('m'), LETTER('n'), LETTER('o'), LETTER('p'), LETTER('q'), LETTER('r'),
    LETTER('s'), LETTER('t'), LETTER('u'), LETTER('v'), LETTER('w'), LETTER('x'), LETTER('y'), LETTER('z'),
};
/* clang-format on */

static bool is_letter(const char *text, uint8_t n, uint8_t byte) {
    uint8_t letter = (uint8_t)text[n];
    return letter == lb_token[byte] || letter == byte;
}

/* The first word from here on that begins with `n` letters of the one before and with this byte after them. */
static uint8_t next_word(const struct lb_word *words, uint8_t word, uint8_t n, uint8_t byte) {
    do {
        word++;
        if (words[word].text == NULL || words[word].shared < n)
            return LB_WORD_UNKNOWN;
    } while (!is_letter(words[word].text, n, byte));
    return word;
}

const uint8_t *lb_word_take(struct lb_word_match *match, const struct lb_word *words, const uint8_t *at,
                            const uint8_t *end) {
    uint8_t word = match->word, n = match->letters;
    const char *text = word != LB_WORD_UNKNOWN ? words[word].text : NULL;

    for (; text != NULL && at < end && lb_is_token(*at); at++, n++) {
        if (is_letter(text, n, *at))
            continue;
        word = next_word(words, word, n, *at);
        text = word != LB_WORD_UNKNOWN ? words[word].text : NULL;
    }
    *match = (struct lb_word_match){word, n};
    while (at < end && lb_is_token(*at))
        at++;
    return at;
}

/* The first byte below `limit`, at most 0x80. Eight at a time: the subtraction sets the highest bit of a byte that is
 * below the limit. A borrow reaches only bytes after such a one. */
static inline const uint8_t *find_below(const uint8_t *at, const uint8_t *end, uint8_t limit) {
    const uint64_t ones = UINT64_MAX / 255;

    for (; end - at >= 8; at += 8) {
        uint64_t eight;
        memcpy(&eight, at, sizeof eight);
        eight = le64toh(eight);
        eight = (eight - ones * limit) & ~eight & ones * 0x80;
        if (eight != 0)
            return at + __builtin_ctzll(eight) / 8;
    }
    while (at < end && *at >= limit)
        at++;
    return at;
}

const uint8_t *lb_text_end(const uint8_t *at, const uint8_t *end) { return find_below(at, end, ' '); }

const uint8_t *lb_visible_end(const uint8_t *at, const uint8_t *end) { return find_below(at, end, ' ' + 1); }
