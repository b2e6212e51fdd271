/* Numbered datagrams, RATE a second on each flow. */
#define _GNU_SOURCE
#include "probe.h"

#include <stdio.h>
#include <stdlib.h>

struct sender {
	int fd;
	struct sockaddr_storage target;
	socklen_t length;
	uint64_t next, failed;
};

static void send_due(struct sender *flow, uint64_t due)
{
	uint64_t number[BATCH];
	struct iovec part[BATCH];
	struct mmsghdr message[BATCH];

	while (flow->next < due) {
		int count = due - flow->next < BATCH ? (int)(due - flow->next) : BATCH, sent;

		for (int i = 0; i < count; i++) {
			number[i] = flow->next + i;
			part[i] = (struct iovec){ &number[i], sizeof number[i] };
			message[i] = (struct mmsghdr){ .msg_hdr = { .msg_name = &flow->target, .msg_namelen = flow->length,
								    .msg_iov = &part[i], .msg_iovlen = 1 } };
		}
		sent = sendmmsg(flow->fd, message, count, 0);
		if (sent <= 0) {
			sent = 1;
			flow->failed++;
		}
		flow->next += sent;
	}
}

int send_mode(int count, char **word)
{
	struct sender flow[FLOWS] = { 0 };
	double rate = atof(word[0]);
	int flows = (count - 1) / 2;
	int64_t start, end;

	if (rate < 1 || rate > RATE_MAX || flows < 1 || flows > FLOWS || count != 1 + 2 * flows)
		return 2;
	for (int i = 0; i < flows; i++) {
		int big = 1 << 24;
		flow[i].length = parse_address(word[2 + 2 * i], PORT, &flow[i].target);
		flow[i].fd = bound_socket(word[1 + 2 * i], 0, SOCK_DGRAM);
		setsockopt(flow[i].fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
	}
	be_prompt();
	start = now_ns();
	end = start + LIMIT_S * NS;
	for (int64_t now = start; !stopped && now < end; now = now_ns()) {
		uint64_t due = (uint64_t)((now - start) * (rate / NS)) + 1;
		int64_t next;

		for (int i = 0; i < flows; i++)
			send_due(&flow[i], due);
		next = start + (int64_t)(due * (NS / rate)) - now_ns();
		if (next > 0)
			sleep_ns(next);
	}
	printf("{\"start_ns\":%lld,\"flows\":[", (long long)start);
	for (int i = 0; i < flows; i++)
		printf("%s{\"numbers\":%llu,\"failed\":%llu}", i ? "," : "", (unsigned long long)flow[i].next,
		       (unsigned long long)flow[i].failed);
	printf("]}\n");
	return 0;
}
