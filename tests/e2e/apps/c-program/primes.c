/* Prints the prime numbers up to a limit: the sieve of Eratosthenes. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static bool composite[1000001];

int main(int argc, char **argv)
{
	char *end = "";
	errno = 0;
	long limit = argc == 2 ? strtol(argv[1], &end, 10) : -1;
	if (errno || *end || limit < 0 || limit > 1000000) {
		fprintf(stderr, "usage: primes LIMIT, a number up to 1000000\n");
		return 2;
	}
	for (long n = 2; n <= limit; n++) {
		if (composite[n])
			continue;
		printf("%ld\n", n);
		for (long multiple = n * n; multiple <= limit; multiple += n)
			composite[multiple] = true;
	}
	return 0;
}
