/* The cost of one process and its children. */
#define _GNU_SOURCE
#include "probe.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* From a process this small: after exec(2) a child's peak memory still counts that of the process it was forked from. */
int run_mode(char **word)
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
