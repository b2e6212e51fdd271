/* New TCP connections, one after the other, and the server that takes them. */
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PENDING = 1024, GIVE_UP_MS = 5000 };

int serve_mode(int count, char **word)
{
	struct pollfd door[FLOWS];
	int64_t end = now_ns() + LIMIT_S * NS;

	if (count > FLOWS)
		return 2;
	for (int i = 0; i < count; i++) {
		door[i] = (struct pollfd){ .fd = bound_socket(word[i], PORT, SOCK_STREAM), .events = POLLIN };
		if (listen(door[i].fd, 1024))
			die("listen");
	}
	puts("ready");
	fflush(stdout);
	while (!stopped && now_ns() < end) {
		if (poll(door, count, 100) <= 0)
			continue;
		for (int i = 0; i < count; i++) {
			int fd = accept4(door[i].fd, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0)
				close(fd);
		}
	}
	printf("{}\n");
	return 0;
}

struct attempt {
	int fd;
	int64_t since;
};

struct tally {
	uint64_t tried, failed;
	int64_t slowest_ns;
	struct attempt pending[PENDING];
	int open;
};

/* Reset on close: thousands of connections in TIME_WAIT are not what is measured. */
static void end_attempt(struct tally *tally, int index, bool success)
{
	struct linger none = { 1, 0 };
	struct attempt *attempt = &tally->pending[index];
	int64_t took = now_ns() - attempt->since;

	tally->failed += !success;
	if (success && took > tally->slowest_ns)
		tally->slowest_ns = took;
	setsockopt(attempt->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
	close(attempt->fd);
	*attempt = tally->pending[--tally->open];
}

static void begin_attempt(struct tally *tally, const char *target)
{
	struct sockaddr_storage address;
	socklen_t length = parse_address(target, PORT, &address);
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	tally->tried++;
	if (fd < 0 || tally->open == PENDING) {
		tally->failed++;
		close(fd);
		return;
	}
	tally->pending[tally->open++] = (struct attempt){ fd, now_ns() };
	if (connect(fd, (struct sockaddr *)&address, length) && errno != EINPROGRESS)
		end_attempt(tally, tally->open - 1, false);
}

static void poll_attempts(struct tally *tally, int wait_ms)
{
	static struct pollfd fds[PENDING];

	for (int i = 0; i < tally->open; i++)
		fds[i] = (struct pollfd){ .fd = tally->pending[i].fd, .events = POLLOUT };
	poll(fds, tally->open, wait_ms);
	for (int i = tally->open - 1; i >= 0; i--) { /* downwards: the last one takes the place of one that ends */
		int error = 0;
		socklen_t length = sizeof error;

		if (fds[i].revents) {
			getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &error, &length);
			end_attempt(tally, i, !error);
		} else if (now_ns() - tally->pending[i].since > GIVE_UP_MS * NS_PER_MS) {
			end_attempt(tally, i, false);
		}
	}
}

int connect_mode(int count, char **word)
{
	static struct tally tally;
	int64_t every = atoi(word[0]) * NS_PER_MS, due = now_ns(), end = due + LIMIT_S * NS;

	if (every <= 0 || count < 2)
		return 2;
	be_prompt();
	while (!stopped && now_ns() < end) {
		for (; due <= now_ns(); due += every)
			for (int i = 1; i < count; i++)
				begin_attempt(&tally, word[i]);
		poll_attempts(&tally, (int)((due - now_ns()) / NS_PER_MS) + 1);
	}
	end = now_ns() + GIVE_UP_MS * NS_PER_MS;
	while (tally.open && now_ns() < end)
		poll_attempts(&tally, 10);
	printf("{\"tried\":%llu,\"failed\":%llu,\"slowest_ns\":%lld}\n", (unsigned long long)tally.tried,
	       (unsigned long long)tally.failed + tally.open, (long long)tally.slowest_ns);
	return 0;
}
