/* N-Triples, a block of whole lines at a time, into columns: predicates are looked up in a table that says what is
   wanted of them, and a line that is not wanted is left at its object. kgkit/native/ntriples.py says what comes out,
   and holds the Python twin, whose answers are the same to the byte. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 1, LITERALS = 2, ONE_LANGUAGE = 4 };                      /* what is wanted of a predicate */
enum { NODE = 0, PLAIN = 1, LANGUAGE = 2, TYPED = 3 };                   /* what an object is */
enum { DONE = 0, NEW_PREDICATE = 1, REJECTS_FULL = 2, NO_MEMORY = 3 };   /* why a call ends */
enum { OK = 0, SUBJECT, PREDICATE, OBJECT, END, IRI, LITERAL, TAG, ESCAPE, UTF8 };
enum { REASON_LANGUAGE = 0 };                                            /* counts[0]: literals in other languages */

typedef const unsigned char *bytes;

typedef struct {
    char *key;
    int64_t length;
    uint64_t hash;
    uint8_t wants, why_node, why_literal;
} entry;

typedef struct {
    entry *entries;
    int32_t *slots; /* -1: free */
    int64_t count, capacity, mask;
} table;

typedef struct {
    table predicates, tags;
    char *namespace, *language;
    int64_t namespace_length, language_length;
} parser;

typedef struct {
    int64_t position, line;                  /* where the next call goes on, and the number of that line */
    int64_t triples, rows, rejects;          /* lines that hold something; rows kept; rejects listed */
    int64_t subject_length, object_length;   /* bytes written */
    int64_t new_start, new_end;              /* the predicate that has no verdict yet */
    int64_t reject_capacity;
    int32_t *subject_offsets, *predicates, *object_offsets, *tags;
    uint8_t *kinds;
    char *subjects, *objects;
    int64_t *reject_lines, *reject_starts, *reject_ends;
    uint8_t *reject_codes;
    int64_t *counts;                         /* [256] lines left out, by reason */
} output;

/* -- tables of predicates and of language tags and datatypes ------------------------------------------------ */

static uint64_t hash_of(bytes p, int64_t n)
{
    uint64_t h = (uint64_t)n * 0x9E3779B97F4A7C15ull, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 0xFF51AFD7ED558CCDull;
        h ^= h >> 32;
    }
    for (; n > 0; p++, n--)
        h = (h ^ *p) * 0x100000001B3ull;
    h ^= h >> 29;
    return h * 0xC4CEB9FE1A85EC53ull ^ h >> 32;
}

static int32_t find(const table *t, bytes p, int64_t n, uint64_t hash)
{
    if (t->slots == NULL)
        return -1;
    for (uint64_t i = hash & (uint64_t)t->mask;; i = (i + 1) & (uint64_t)t->mask) {
        const int32_t at = t->slots[i];
        if (at < 0)
            return -1;
        const entry *e = t->entries + at;
        if (e->hash == hash && e->length == n && memcmp(e->key, p, (size_t)n) == 0)
            return at;
    }
}

static int grow(table *t)
{
    const int64_t capacity = t->capacity ? t->capacity * 2 : 1024;
    int32_t *slots = malloc((size_t)capacity * 2 * sizeof *slots);
    entry *entries = slots ? realloc(t->entries, (size_t)capacity * sizeof *entries) : NULL;
    if (entries == NULL) {
        free(slots);
        return 0;
    }
    memset(slots, 0xFF, (size_t)capacity * 2 * sizeof *slots);
    const uint64_t mask = (uint64_t)capacity * 2 - 1;
    for (int64_t k = 0; k < t->count; k++) {
        uint64_t i = entries[k].hash & mask;
        while (slots[i] >= 0)
            i = (i + 1) & mask;
        slots[i] = (int32_t)k;
    }
    free(t->slots);
    t->slots = slots, t->entries = entries, t->capacity = capacity, t->mask = (int64_t)mask;
    return 1;
}

/* The number of a key that is not in the table yet; -1 without memory. */
static int32_t insert(table *t, bytes p, int64_t n, uint64_t hash)
{
    if (t->count == t->capacity && !grow(t))
        return -1;
    char *key = malloc((size_t)n + 1);
    if (key == NULL)
        return -1;
    memcpy(key, p, (size_t)n);
    t->entries[t->count] = (entry){.key = key, .length = n, .hash = hash};
    uint64_t i = hash & (uint64_t)t->mask;
    while (t->slots[i] >= 0)
        i = (i + 1) & (uint64_t)t->mask;
    t->slots[i] = (int32_t)t->count;
    return (int32_t)t->count++;
}

static void clear(table *t)
{
    for (int64_t k = 0; k < t->count; k++)
        free(t->entries[k].key);
    free(t->entries);
    free(t->slots);
}

/* -- characters --------------------------------------------------------------------------------------------- */

static int utf8(bytes p, bytes e)
{
    while (p < e) {
        uint64_t w;
        if (e - p >= 8 && (memcpy(&w, p, 8), !(w & 0x8080808080808080ull))) {
            p += 8;
            continue;
        }
        const unsigned c = *p;
        if (c < 0x80) {
            p++;
            continue;
        }
        const int more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        if (c < 0xC2 || c > 0xF4 || e - p <= more)
            return 0;
        for (int k = 1; k <= more; k++)
            if ((p[k] & 0xC0) != 0x80)
                return 0;
        if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F) || (c == 0xF0 && p[1] < 0x90)
            || (c == 0xF4 && p[1] > 0x8F))
            return 0;
        p += more + 1;
    }
    return 1;
}

static int forbidden(uint32_t c) /* in an IRI */
{
    return c <= 0x20 || c == '<' || c == '>' || c == '"' || c == '{' || c == '}' || c == '|' || c == '^' || c == '`'
           || c == '\\';
}

static int letter(unsigned c)
{
    return (c | 32) - 'a' < 26u;
}

static int digit(unsigned c)
{
    return c - '0' < 10u;
}

static bytes blanks(bytes p, bytes e)
{
    while (p < e && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

/* Hexadecimal digits as a code point that UTF-8 can hold; -1 otherwise. */
static int64_t code_point(bytes p, bytes e, int digits)
{
    uint32_t value = 0;
    if (e - p < digits)
        return -1;
    for (int k = 0; k < digits; k++) {
        const unsigned c = p[k];
        if (digit(c))
            value = value << 4 | (c - '0');
        else if ((c | 32) - 'a' < 6u)
            value = value << 4 | ((c | 32) - 'a' + 10);
        else
            return -1;
    }
    return value > 0x10FFFF || (value >= 0xD800 && value < 0xE000) ? -1 : (int64_t)value;
}

static char *put(char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xC0 | c >> 6);
        *to++ = (char)(0x80 | (c & 63));
    } else {
        if (c < 0x10000) {
            *to++ = (char)(0xE0 | c >> 12);
        } else {
            *to++ = (char)(0xF0 | c >> 18);
            *to++ = (char)(0x80 | (c >> 12 & 63));
        }
        *to++ = (char)(0x80 | (c >> 6 & 63));
        *to++ = (char)(0x80 | (c & 63));
    }
    return to;
}

/* Copies text with its escapes replaced, which never makes it longer; NULL for an escape that is none. */
static char *unescape(char *to, bytes p, bytes e, int iri)
{
    static const char from[] = "tbnrf\"'\\", into[] = "\t\b\n\r\f\"'\\";
    while (p < e) {
        bytes slash = memchr(p, '\\', (size_t)(e - p));
        const size_t plain = (size_t)((slash ? slash : e) - p);
        memcpy(to, p, plain);
        to += plain;
        if (slash == NULL)
            return to;
        if (++slash == e)
            return NULL;
        if (*slash == 'u' || *slash == 'U') {
            const int digits = *slash == 'u' ? 4 : 8;
            const int64_t c = code_point(slash + 1, e, digits);
            if (c < 0 || (iri && forbidden((uint32_t)c)))
                return NULL;
            to = put(to, (uint32_t)c);
            p = slash + 1 + digits;
        } else {
            const char *known = iri || !*slash ? NULL : strchr(from, *slash);
            if (known == NULL)
                return NULL;
            *to++ = into[known - from];
            p = slash + 1;
        }
    }
    return to;
}

/* -- terms -------------------------------------------------------------------------------------------------- */

typedef struct {
    bytes start, end; /* without brackets and quotes */
    int kind;
    int blank;   /* _:label */
    int escaped; /* holds a backslash */
    bytes tag_start, tag_end;
} term;

static unsigned char classes[256]; /* of IRI characters; 1: forbidden, 2: backslash, 4: '>' */

__attribute__((constructor)) static void fill_classes(void)
{
    for (unsigned c = 0; c < 128; c++)
        classes[c] = (unsigned char)forbidden(c);
    classes['\\'] = 2;
    classes['>'] = 4;
}

/* Reads `<...>` at p: past it, or NULL when it does not close. *code becomes IRI for a forbidden character. */
static bytes read_iri(const parser *nt, bytes p, bytes e, term *t, int *code)
{
    unsigned seen = 0;
    t->start = ++p;
    if (e - p > nt->namespace_length && memcmp(p, nt->namespace, (size_t)nt->namespace_length) == 0)
        p += nt->namespace_length; /* which holds nothing forbidden */
    for (; p < e && classes[*p] != 4; p++)
        seen |= classes[*p];
    if (p == e)
        return NULL;
    t->end = p;
    t->kind = NODE, t->blank = 0, t->escaped = (seen & 2) != 0;
    if (seen & 1)
        *code = IRI;
    return p + 1;
}

/* Reads `_:label`: past it, or NULL. Any character beyond ASCII may stand in a label. */
static bytes read_blank(bytes p, bytes e, term *t)
{
    t->start = p;
    p += 2;
    if (p > e || p[-1] != ':')
        return NULL;
    bytes first = p;
    while (p < e && (letter(*p) || digit(*p) || *p >= 0x80 || *p == '_' || *p == ':' || *p == '-' || *p == '.'))
        p++;
    while (p > first && p[-1] == '.')
        p--;
    if (p == first || *first == '-' || *first == '.')
        return NULL;
    t->end = p;
    t->kind = NODE, t->blank = 1, t->escaped = 0;
    return p;
}

static bytes read_string(const parser *nt, bytes p, bytes e, term *t, int *code)
{
    t->start = ++p;
    t->kind = PLAIN, t->blank = 0;
    for (;; p++) {
        p = memchr(p, '"', (size_t)(e - p));
        if (p == NULL) {
            *code = LITERAL;
            return NULL;
        }
        bytes back = p;
        while (back > t->start && back[-1] == '\\')
            back--;
        if (((p - back) & 1) == 0)
            break;
    }
    t->end = p++;
    if (memchr(t->start, '\r', (size_t)(t->end - t->start))) {
        *code = LITERAL;
        return NULL;
    }
    t->escaped = memchr(t->start, '\\', (size_t)(t->end - t->start)) != NULL;
    bytes after = blanks(p, e);
    if (after < e && *after == '@') {
        t->tag_start = p = after + 1;
        while (p < e && letter(*p))
            p++;
        int good = p > t->tag_start;
        while (good && p < e && *p == '-') {
            bytes part = ++p;
            while (p < e && (letter(*p) || digit(*p)))
                p++;
            good = p > part;
        }
        t->tag_end = p;
        t->kind = LANGUAGE;
        *code = good ? OK : TAG;
        return p;
    }
    if (after < e && *after == '^') {
        term type;
        bytes at = after + 1 < e && after[1] == '^' ? blanks(after + 2, e) : e;
        int bad = OK;
        p = at < e && *at == '<' ? read_iri(nt, at, e, &type, &bad) : NULL;
        if (p == NULL || bad) {
            *code = TAG;
            return NULL;
        }
        t->tag_start = type.start, t->tag_end = type.end;
        t->kind = TYPED;
    }
    return p;
}

/* Numbers and booleans without quotes, which the public Freebase dump takes over from Turtle. */
static bytes read_bare(bytes p, bytes e, term *t)
{
    static const char *const types[] = {
        "http://www.w3.org/2001/XMLSchema#boolean",
        "http://www.w3.org/2001/XMLSchema#integer",
        "http://www.w3.org/2001/XMLSchema#decimal",
        "http://www.w3.org/2001/XMLSchema#double",
    };
    int type = 1;
    t->start = p;
    t->kind = TYPED, t->blank = 0, t->escaped = 0;
    if (e - p >= 4 && memcmp(p, "true", 4) == 0) {
        p += 4, type = 0;
    } else if (e - p >= 5 && memcmp(p, "false", 5) == 0) {
        p += 5, type = 0;
    } else {
        p += *p == '+' || *p == '-';
        bytes mantissa = p;
        while (p < e && digit(*p))
            p++;
        if (e - p >= 2 && *p == '.' && digit(p[1])) {
            type = 2;
            for (p++; p < e && digit(*p); p++)
                ;
        }
        if (p == mantissa)
            return NULL;
        if (p < e && (*p | 32) == 'e') {
            bytes power = p + 1;
            power += power < e && (*power == '+' || *power == '-');
            if (power < e && digit(*power)) {
                type = 3;
                for (p = power; p < e && digit(*p); p++)
                    ;
            }
        }
    }
    t->end = p;
    t->tag_start = (bytes)types[type];
    t->tag_end = t->tag_start + strlen(types[type]);
    return p;
}

static bytes read_object(const parser *nt, bytes p, bytes e, term *t, int *code)
{
    bytes next = NULL;
    *code = OBJECT;
    if (p == e)
        return NULL;
    if (*p == '<') {
        int bad = OK;
        next = read_iri(nt, p, e, t, &bad);
        *code = next ? bad : OBJECT;
    } else if (*p == '_') {
        next = read_blank(p, e, t);
        *code = next ? OK : OBJECT;
    } else if (*p == '"') {
        *code = OK;
        next = read_string(nt, p, e, t, code);
    } else {
        next = read_bare(p, e, t);
        *code = next ? OK : OBJECT;
    }
    return next;
}

static int ended(bytes p, bytes e)
{
    p = blanks(p, e);
    if (p == e || *p != '.')
        return 0;
    p = blanks(p + 1, e);
    return p == e || *p == '#';
}

/* A raw IRI that may become a key: escapes, scheme and UTF-8. */
static int good_iri(const parser *nt, bytes p, bytes e, char *scratch)
{
    char *end = unescape(scratch, p, e, 1);
    if (end == NULL)
        return IRI;
    bytes from = (bytes)scratch, to = (bytes)end, c = from;
    if (nt->namespace_length && to - from >= nt->namespace_length
        && memcmp(from, nt->namespace, (size_t)nt->namespace_length) == 0)
        return utf8(from, to) ? OK : UTF8;
    if (c == to || !letter(*c))
        return IRI;
    while (c < to && (letter(*c) || digit(*c) || *c == '+' || *c == '-' || *c == '.'))
        c++;
    if (c == to || *c != ':')
        return IRI;
    return utf8(from, to) ? OK : UTF8;
}

/* Writes a node as it is named in the graph, the namespace cut off; NULL and *code when it cannot be. */
static char *put_node(const parser *nt, const term *t, char *to, int *code)
{
    const int64_t n = nt->namespace_length;
    if (t->blank) {
        *code = utf8(t->start, t->end) ? OK : UTF8;
        memcpy(to, t->start, (size_t)(t->end - t->start));
        return *code ? NULL : to + (t->end - t->start);
    }
    if (!t->escaped && n && t->end - t->start > n && memcmp(t->start, nt->namespace, (size_t)n) == 0) {
        const size_t left = (size_t)(t->end - t->start - n);
        memcpy(to, t->start + n, left);
        *code = utf8(t->start + n, t->end) ? OK : UTF8;
        return *code ? NULL : to + left;
    }
    *code = good_iri(nt, t->start, t->end, to);
    if (*code)
        return NULL;
    char *end = unescape(to, t->start, t->end, 1);
    if (n && end - to > n && memcmp(to, nt->namespace, (size_t)n) == 0) {
        memmove(to, to + n, (size_t)(end - to - n));
        end -= n;
    }
    return end;
}

static char *put_literal(const term *t, char *to, int *code)
{
    if (!utf8(t->start, t->end)) {
        *code = UTF8;
        return NULL;
    }
    char *end = unescape(to, t->start, t->end, 0);
    if (!t->escaped)
        return end;
    *code = end ? OK : ESCAPE;
    return end;
}

static int same_language(const parser *nt, const term *t)
{
    if (t->kind != LANGUAGE)
        return 1; /* text without a language counts as of every language */
    if (t->tag_end - t->tag_start != nt->language_length)
        return 0;
    for (int64_t k = 0; k < nt->language_length; k++)
        if ((t->tag_start[k] | 32) != ((unsigned char)nt->language[k] | 32))
            return 0;
    return 1;
}

/* -- lines -------------------------------------------------------------------------------------------------- */

enum { PENDING = -1, OUT_OF_MEMORY = -2 };

/* One line [p, e) without blanks around it. Gives OK, a code of rejection, PENDING or OUT_OF_MEMORY. */
static int one_line(parser *nt, bytes data, bytes p, bytes e, output *out, term *last)
{
    term subject, predicate, object;
    int code = OK;
    const int64_t same = last->start ? last->end - last->start + 1 : 0; /* with the '>' */
    if (same && e - p > same && memcmp(p + 1, last->start, (size_t)same) == 0 && *p == '<') {
        subject = *last; /* dumps are sorted by subject */
        p += same + 1;
    } else {
        p = *p == '<' ? read_iri(nt, p, e, &subject, &code) : *p == '_' ? read_blank(p, e, &subject) : NULL;
        if (p == NULL)
            return SUBJECT;
        if (code)
            return code;
        if (!subject.blank)
            *last = subject;
    }
    p = blanks(p, e);
    if (p == e || *p != '<')
        return PREDICATE;
    p++;
    bytes close = memchr(p, '>', (size_t)(e - p));
    if (close == NULL)
        return PREDICATE;
    const uint64_t hash = hash_of(p, close - p);
    const int32_t which = find(&nt->predicates, p, close - p, hash);
    char *objects = out->objects + out->object_length;
    if (which < 0) {
        read_iri(nt, p - 1, e, &predicate, &code);
        if (!code)
            code = good_iri(nt, p, close, objects);
        out->new_start = p - data, out->new_end = close - data;
        return code ? code : PENDING;
    }
    const entry *known = nt->predicates.entries + which;
    p = blanks(close + 1, e);
    if (p == e)
        return OBJECT;
    const int node = *p == '<' || *p == '_';
    if (!node && *p != '"' && !digit(*p) && *p != '+' && *p != '-' && *p != '.' && *p != 't' && *p != 'f')
        return OBJECT;
    if (!(known->wants & (node ? NODES : LITERALS))) {
        if (e[-1] != '.') { /* perhaps a comment: this line must be read to its end */
            p = read_object(nt, p, e, &object, &code);
            if (p == NULL || code)
                return code;
            if (!ended(p, e))
                return END;
        } else if (e - 1 == p) {
            return OBJECT;
        }
        out->counts[node ? known->why_node : known->why_literal]++;
        return OK;
    }
    p = read_object(nt, p, e, &object, &code);
    if (p == NULL || code)
        return code;
    if (!ended(p, e))
        return END;
    if (!node && known->wants & ONE_LANGUAGE && !same_language(nt, &object)) {
        out->counts[REASON_LANGUAGE]++;
        return OK;
    }
    char *subjects = out->subjects + out->subject_length;
    char *subject_end = put_node(nt, &subject, subjects, &code);
    if (subject_end == NULL)
        return code;
    char *object_end = node ? put_node(nt, &object, objects, &code) : put_literal(&object, objects, &code);
    if (object_end == NULL)
        return code;
    int32_t tag = -1;
    if (object.kind == LANGUAGE || object.kind == TYPED) {
        const int64_t length = object.tag_end - object.tag_start;
        const uint64_t tag_hash = hash_of(object.tag_start, length);
        tag = find(&nt->tags, object.tag_start, length, tag_hash);
        if (tag < 0) {
            if (object.kind == TYPED && (code = good_iri(nt, object.tag_start, object.tag_end, object_end)))
                return code == UTF8 ? UTF8 : TAG;
            tag = insert(&nt->tags, object.tag_start, length, tag_hash);
            if (tag < 0)
                return OUT_OF_MEMORY;
        }
    }
    const int64_t row = out->rows++;
    out->subject_length += subject_end - subjects;
    out->object_length += object_end - objects;
    out->subject_offsets[row + 1] = (int32_t)out->subject_length;
    out->object_offsets[row + 1] = (int32_t)out->object_length;
    out->predicates[row] = which;
    out->kinds[row] = (uint8_t)object.kind;
    out->tags[row] = tag;
    return OK;
}

/* Parses lines from out->position to the end of data, or to the first that needs the caller. */
int32_t kgkit_nt_parse(parser *nt, bytes data, int64_t length, output *out)
{
    bytes p = data + out->position, stop = data + length;
    term last = {0};
    if (out->rows == 0)
        out->subject_offsets[0] = out->object_offsets[0] = 0;
    for (; p < stop; out->line++) {
        bytes newline = memchr(p, '\n', (size_t)(stop - p));
        bytes start = p, e = newline ? newline : stop;
        p = blanks(p, e);
        while (e > p && (e[-1] == ' ' || e[-1] == '\t' || e[-1] == '\r'))
            e--;
        if (p < e && *p != '#') {
            if (out->rejects == out->reject_capacity) {
                out->position = start - data;
                return REJECTS_FULL;
            }
            const int code = one_line(nt, data, p, e, out, &last);
            if (code < 0) {
                out->position = start - data;
                return code == PENDING ? NEW_PREDICATE : NO_MEMORY;
            }
            out->triples++;
            if (code) {
                const int64_t k = out->rejects++;
                out->reject_lines[k] = out->line;
                out->reject_codes[k] = (uint8_t)code;
                out->reject_starts[k] = p - data;
                out->reject_ends[k] = e - data;
            }
        }
        p = newline ? newline + 1 : stop;
    }
    out->position = length;
    return DONE;
}

/* -- for Python --------------------------------------------------------------------------------------------- */

static char *copy(const char *text, int64_t length)
{
    char *made = malloc((size_t)length + 1);
    if (made)
        memcpy(made, text, (size_t)length);
    return made;
}

parser *kgkit_nt_new(const char *namespace, int64_t namespace_length, const char *language, int64_t language_length)
{
    parser *nt = calloc(1, sizeof *nt);
    if (nt == NULL)
        return NULL;
    nt->namespace = copy(namespace, namespace_length), nt->namespace_length = namespace_length;
    nt->language = copy(language, language_length), nt->language_length = language_length;
    return nt;
}

void kgkit_nt_free(parser *nt)
{
    clear(&nt->predicates);
    clear(&nt->tags);
    free(nt->namespace);
    free(nt->language);
    free(nt);
}

/* Says what is wanted of a predicate that has no verdict yet; its number, or -1 without memory. */
int32_t kgkit_nt_decide(parser *nt, bytes key, int64_t length, int32_t wants, int32_t why_node, int32_t why_literal)
{
    const int32_t at = insert(&nt->predicates, key, length, hash_of(key, length));
    if (at >= 0) {
        entry *e = nt->predicates.entries + at;
        e->wants = (uint8_t)wants, e->why_node = (uint8_t)why_node, e->why_literal = (uint8_t)why_literal;
    }
    return at;
}

int64_t kgkit_nt_tags(const parser *nt)
{
    return nt->tags.count;
}

const char *kgkit_nt_tag(const parser *nt, int64_t which, int64_t *length)
{
    *length = nt->tags.entries[which].length;
    return nt->tags.entries[which].key;
}
