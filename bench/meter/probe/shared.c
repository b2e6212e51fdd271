/* What the modes of the probe share: time, sockets, and an end by SIGTERM. */
#define _GNU_SOURCE
#include "probe.h"

#include <netdb.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

void be_stoppable(void)
{
	struct sigaction on_stop = { .sa_handler = stop };

	sigaction(SIGTERM, &on_stop, NULL);
}

_Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

int64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec * NS + time.tv_nsec;
}

void sleep_ns(int64_t ns)
{
	struct timespec time = { ns / NS, ns % NS };

	nanosleep(&time, NULL);
}

/* A meter that waits behind the thing it measures measures the scheduler. Best effort. */
void be_prompt(void)
{
	struct sched_param first = { .sched_priority = 10 };

	prctl(PR_SET_TIMERSLACK, 1UL);
	(void)sched_setscheduler(0, SCHED_FIFO, &first);
}

socklen_t parse_address(const char *text, int port, struct sockaddr_storage *address)
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

int bound_socket(const char *text, int port, int type)
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
