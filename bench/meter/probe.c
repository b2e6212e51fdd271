/* The meter: numbered UDP one way, new TCP connections, and one process's cost. Each mode prints one line of JSON.
 *
 *   probe send RATE SOURCE TARGET [SOURCE TARGET]...   RATE numbers a second on each flow, until SIGTERM
 *   probe receive ADDRESS...                           what arrived and what did not, until SIGTERM
 *   probe serve ADDRESS...                             accept TCP connections and close them, until SIGTERM
 *   probe connect EVERY_MS TARGET...                   open a TCP connection to each target every EVERY_MS, until SIGTERM
 *   probe run COMMAND [ARGUMENT]...                    wall time, CPU time and peak memory of one process and its children
 *
 * Theory of operation. A number is due at start + i / RATE; a sender that comes late sends all that are due at once, so a
 * pause of the sender loses nothing. A number whose sendmmsg(2) fails is not sent again: the host could not send it, it
 * is lost. The receiver takes the kernel's time of arrival (SO_TIMESTAMPNS) and reads its sockets every 5 ms out of a
 * large buffer: its own scheduling changes neither what is lost nor when things arrived. All end by themselves after
 * LIMIT_S.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 7007, LIMIT_S = 120, FLOWS = 4, BATCH = 64, RATE_MAX = 50000, PENDING = 1024, GIVE_UP_MS = 10000 };
static const int64_t NS = 1000000000, PAUSE_NS = 1000000;

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec * NS + time.tv_nsec;
}

static void sleep_ns(int64_t ns)
{
	struct timespec time = { ns / NS, ns % NS };

	nanosleep(&time, NULL);
}

/* A meter that waits behind the thing it measures measures the scheduler. Best effort. */
static void be_prompt(void)
{
	struct sched_param first = { .sched_priority = 10 };

	prctl(PR_SET_TIMERSLACK, 1UL);
	(void)sched_setscheduler(0, SCHED_FIFO, &first);
}

static socklen_t parse_address(const char *text, int port, struct sockaddr_storage *address)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM }, *found;
	socklen_t length;

	if (getaddrinfo(text, NULL, &hints, &found)) {
		fprintf(stderr, "probe: %s is no address\n", text);
		exit(2);
	}
	memcpy(address, found->ai_addr, found->ai_addrlen);
	length = found->ai_addrlen;
	freeaddrinfo(found);
	if (address->ss_family == AF_INET)
		((struct sockaddr_in *)address)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)address)->sin6_port = htons(port);
	return length;
}

static int bound_socket(const char *text, int port, int type)
{
	struct sockaddr_storage address;
	socklen_t length = parse_address(text, port, &address);
	int one = 1, fd = socket(address.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one))
		die("socket");
	if (bind(fd, (struct sockaddr *)&address, length))
		die(text);
	return fd;
}

/* ---- send ---- */

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

static int send_mode(int count, char **word)
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

/* ---- receive ---- */

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

static int receive_mode(int count, char **word)
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

/* ---- TCP ---- */

static int serve_mode(int count, char **word)
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
		} else if (now_ns() - tally->pending[i].since > GIVE_UP_MS * (NS / 1000)) {
			end_attempt(tally, i, false);
		}
	}
}

static int connect_mode(int count, char **word)
{
	static struct tally tally;
	int64_t every = atoi(word[0]) * (NS / 1000), due = now_ns(), end = due + LIMIT_S * NS;

	if (every <= 0 || count < 2)
		return 2;
	be_prompt();
	while (!stopped && now_ns() < end) {
		for (; due <= now_ns(); due += every)
			for (int i = 1; i < count; i++)
				begin_attempt(&tally, word[i]);
		poll_attempts(&tally, (int)((due - now_ns()) / (NS / 1000)) + 1);
	}
	end = now_ns() + GIVE_UP_MS * (NS / 1000);
	while (tally.open && now_ns() < end)
		poll_attempts(&tally, 10);
	printf("{\"tried\":%llu,\"failed\":%llu,\"slowest_ns\":%lld}\n", (unsigned long long)tally.tried,
	       (unsigned long long)tally.failed + tally.open, (long long)tally.slowest_ns);
	return 0;
}

/* ---- run ---- */

/* From a process this small: after exec(2) a child's peak memory still counts that of the process it was forked from. */
static int run_mode(char **word)
{
	struct rusage used;
	int64_t start = now_ns(), end;
	int status;
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (!child) {
		execvp(word[0], word);
		perror(word[0]);
		_exit(127);
	}
	if (wait4(child, &status, 0, &used) < 0)
		die("wait4");
	end = now_ns();
	fprintf(stderr, "{\"exit\":%d,\"wall_ns\":%lld,\"cpu_us\":%lld,\"peak_kib\":%ld}\n",
		WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), (long long)(end - start),
		(long long)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 + used.ru_utime.tv_usec + used.ru_stime.tv_usec,
		used.ru_maxrss);
	return 0;
}

int main(int count, char **word)
{
	struct sigaction on_stop = { .sa_handler = stop };
	const char *mode = count > 2 ? word[1] : "";
	int code = 2;

	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGTERM, &on_stop, NULL);
	if (!strcmp(mode, "run"))
		return run_mode(word + 2);
	if (!strcmp(mode, "send"))
		code = send_mode(count - 2, word + 2);
	else if (!strcmp(mode, "receive"))
		code = receive_mode(count - 2, word + 2);
	else if (!strcmp(mode, "serve"))
		code = serve_mode(count - 2, word + 2);
	else if (!strcmp(mode, "connect"))
		code = connect_mode(count - 2, word + 2);
	if (code == 2)
		fprintf(stderr, "probe: see the head of probe.c for how it is used\n");
	return code;
}
