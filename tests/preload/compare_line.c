/* compare: a line's words, its outcome, and the names of descriptors. */
#include "compare.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct {
	char name[16];
	int fd;
} slots[MAX_SLOTS];

int *slot_of(const char *name)
{
	int i;

	for (i = 0; i < MAX_SLOTS && slots[i].name[0]; i++)
		if (!strcmp(slots[i].name, name))
			return &slots[i].fd;
	if (i == MAX_SLOTS)
		script_error("too many slots");
	snprintf(slots[i].name, sizeof(slots[i].name), "%s", name);
	slots[i].fd = -1;
	return &slots[i].fd;
}

const char *line_word(const struct line *l, int i)
{
	if (i >= l->count)
		script_error("%s: argument %d is missing", l->word[0], i);
	return l->word[i];
}

const char *line_word_or(const struct line *l, int i, const char *otherwise)
{
	return i < l->count ? l->word[i] : otherwise;
}

int line_fd(const struct line *l, int i)
{
	return *slot_of(line_word(l, i));
}

void line_say(struct line *l, const char *fmt, ...)
{
	size_t len = strlen(l->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->text + len, sizeof(l->text) - len, fmt, ap);
	va_end(ap);
}

void line_outcome(struct line *l, long rc)
{
	if (rc < 0)
		line_say(l, "%ld %s", rc, strerrorname_np(errno));
	else
		line_say(l, "%ld", rc);
}

void sleep_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

void line_parse(struct line *l, char *buf)
{
	char *word, *save = NULL;

	memset(l, 0, sizeof(*l));
	for (word = strtok_r(buf, " \t", &save); word; word = strtok_r(NULL, " \t", &save)) {
		if (l->count == MAX_WORDS)
			script_error("too many words");
		l->word[l->count++] = word;
	}
}
