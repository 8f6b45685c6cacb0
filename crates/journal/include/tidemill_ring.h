/*
 * Appends records to a tidemill ring from C, or from any language that calls C.
 *
 * A ring is a file that its reader makes and several processes map. An append makes no system call, allocates nothing
 * and never waits. Once it returns, the record outlives this process; when tidemill_ring_released() has passed its
 * position, the reader has it where it lasts longer. Link with -ltidemill_journal. docs/ring.md tells more.
 *
 * A producer belongs to one thread at a time: open one for each thread. It does not pass to a child made by fork(),
 * which must neither use nor close it, but open its own. The file must keep its size while it is open.
 */
#ifndef TIDEMILL_RING_H
#define TIDEMILL_RING_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a call answers; the numbers are those of the pages docs/errors/TMnnnn.md. */
enum {
    TIDEMILL_RING_OK = 0,
    TIDEMILL_RING_IO = 1150,           /* the machine refused to open or map it: see the message */
    TIDEMILL_RING_NOT_A_RING = 1151,   /* the file is something else */
    TIDEMILL_RING_FORMAT = 1152,       /* made by a later version */
    TIDEMILL_RING_DAMAGED = 1153,      /* its header or its size is wrong */
    TIDEMILL_RING_BAD_SHAPE = 1154,    /* no ring can have these measures */
    TIDEMILL_RING_READER_TAKEN = 1155, /* it has its reader; no answer to a producer */
    TIDEMILL_RING_PLACES_TAKEN = 1156, /* as many producers are open as it is made for */
    TIDEMILL_RING_FULL = 1157,         /* none of this producer's records is released: append again later */
    TIDEMILL_RING_TOO_LARGE = 1158,    /* larger than tidemill_ring_record_bytes_max() */
    TIDEMILL_RING_BAD_ARGUMENT = 1159, /* a NULL where none may be */
    TIDEMILL_RING_BUG = 9999           /* a promise inside tidemill is broken: close the producer, report it */
};

typedef struct tidemill_ring_producer tidemill_ring_producer;

/*
 * Opens the ring at `path` and stores the producer in `*producer`, or NULL on failure.
 *
 * On failure the reason is written to `message`, in UTF-8, cut to `message_bytes` bytes with the closing zero; `message`
 * may be NULL.
 */
int tidemill_ring_open(const char *path, tidemill_ring_producer **producer, char *message, size_t message_bytes);

/*
 * Appends `bytes` bytes from `record`, all or nothing.
 *
 * The record's position among those of all producers, from 0, is stored in `*position`, unless that is NULL. Answers
 * TIDEMILL_RING_FULL or TIDEMILL_RING_TOO_LARGE at once when it cannot be.
 */
int tidemill_ring_append(tidemill_ring_producer *producer, const void *record, size_t bytes, uint64_t *position);

/* The reader has taken over every record below the returned position. */
uint64_t tidemill_ring_released(const tidemill_ring_producer *producer);

/* The largest record, in bytes. */
size_t tidemill_ring_record_bytes_max(const tidemill_ring_producer *producer);

/* Closes a producer. Its records stay, and its place is free for another. NULL is allowed. */
void tidemill_ring_close(tidemill_ring_producer *producer);

/* A sentence for a code; never NULL, never to be freed. */
const char *tidemill_ring_error_text(int code);

#ifdef __cplusplus
}
#endif

#endif
