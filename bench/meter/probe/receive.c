/* What arrived, what did not, and when. */
#define _GNU_SOURCE
#include "probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const int64_t PAUSE_NS = NS_PER_MS; /* a silence that is told */

struct receiver {
	int fd;
	uint64_t got, top; /* top: one more than the highest number */
	int64_t *arrival; /* by number; 0: has not arrived */
};

static int64_t arrival_of(struct msghdr *message)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part))
		if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec time;
			memcpy(&time, CMSG_DATA(part), sizeof time);
			return time.tv_sec * NS + time.tv_nsec;
		}
	return now_ns();
}

static void drain(struct receiver *flow)
{
	uint64_t number[BATCH];
	char control[BATCH][CMSG_SPACE(sizeof(struct timespec))];
	struct iovec part[BATCH];
	struct mmsghdr message[BATCH];
	int count;

	do {
		for (int i = 0; i < BATCH; i++) {
			part[i] = (struct iovec){ &number[i], sizeof number[i] };
			message[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &part[i], .msg_iovlen = 1,
								    .msg_control = control[i],
								    .msg_controllen = sizeof control[i] } };
		}
		count = recvmmsg(flow->fd, message, BATCH, MSG_DONTWAIT, NULL);
		for (int i = 0; i < count; i++) {
			if (message[i].msg_len != sizeof number[i] || number[i] >= (uint64_t)RATE_MAX * LIMIT_S)
				continue;
			if (!flow->arrival[number[i]]) {
				flow->got++;
				flow->arrival[number[i]] = arrival_of(&message[i].msg_hdr);
			}
			if (number[i] >= flow->top)
				flow->top = number[i] + 1;
		}
	} while (count == BATCH);
}

static void print_holes(const struct receiver *flow)
{
	int64_t last = 0;
	const char *comma = "";

	for (uint64_t i = 0; i < flow->top; i++) {
		uint64_t first = i;

		while (i < flow->top && !flow->arrival[i])
			i++;
		if (i > first) {
			printf("%s[%llu,%llu,%lld,%lld]", comma, (unsigned long long)first, (unsigned long long)(i - first),
			       (long long)last, (long long)flow->arrival[i]);
			comma = ",";
		}
		last = flow->arrival[i];
	}
}

/* Each silence longer than PAUSE_NS, and the longest of all. */
static void print_silences(const struct receiver *flow)
{
	int64_t last = 0, longest = 0;
	const char *comma = "";

	printf("\"silences\":[");
	for (uint64_t i = 0; i < flow->top; i++) {
		if (!flow->arrival[i])
			continue;
		if (last && flow->arrival[i] - last > PAUSE_NS) {
			printf("%s[%lld,%lld]", comma, (long long)last, (long long)flow->arrival[i]);
			comma = ",";
		}
		if (last && flow->arrival[i] - last > longest)
			longest = flow->arrival[i] - last;
		last = flow->arrival[i];
	}
	printf("],\"longest_ns\":%lld", (long long)longest);
}

int receive_mode(int count, char **word)
{
	struct receiver flow[FLOWS] = { 0 };
	int64_t end = now_ns() + LIMIT_S * NS;

	if (count > FLOWS)
		return 2;
	for (int i = 0; i < count; i++) {
		int one = 1, big = 64 << 20;
		flow[i].fd = bound_socket(word[i], PORT, SOCK_DGRAM);
		/* Without the right to a large buffer what does not fit is counted by the kernel. */
		if (setsockopt(flow[i].fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big))
			setsockopt(flow[i].fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
		if (setsockopt(flow[i].fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one))
			die("SO_TIMESTAMPNS");
		/* Pages that are never touched cost nothing. */
		flow[i].arrival = calloc((size_t)RATE_MAX * LIMIT_S, sizeof *flow[i].arrival);
		if (!flow[i].arrival)
			die("calloc");
	}
	puts("ready");
	fflush(stdout);
	while (!stopped && now_ns() < end) {
		sleep_ns(NS / 200);
		for (int i = 0; i < count; i++)
			drain(&flow[i]);
	}
	for (int i = 0; i < count; i++)
		drain(&flow[i]);
	printf("{\"flows\":[");
	for (int i = 0; i < count; i++) {
		printf("%s{\"got\":%llu,\"top\":%llu,\"holes\":[", i ? "," : "", (unsigned long long)flow[i].got,
		       (unsigned long long)flow[i].top);
		print_holes(&flow[i]);
		printf("],");
		print_silences(&flow[i]);
		printf("}");
	}
	printf("]}\n");
	return 0;
}
