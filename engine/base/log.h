/* log.h - one line per event on stderr: time, rank, level, text
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Rank 0 speaks from info on, the others from warn. A line is written by one write(2), so lines of ranks
 * never mix. */
#ifndef LOG_H
#define LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Who speaks from now on. Before the first call lines carry no rank and info is shown. */
void log_open(int rank, enum log_level least);

/* The rank given to log_open; -1 before. */
int log_rank(void);

/* Is a line of this level written at all? */
int log_shows(enum log_level level);

/* Write one line; a newline is added. Numbers carry their unit. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Rewrite the present line when stderr is a terminal (`\r`, no newline); nothing otherwise. `done` ends the
 * line. */
void log_progress(int done, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
