"""rdflib's N-Triples parser on a file, its triples counted and not stored. Runs in an environment of its own.

python rdflib_peer.py SLICE.nt        prints {"triples": .., "seconds": ..}
"""

import json
import sys
import time

from rdflib.plugins.parsers.ntriples import W3CNTriplesParser


class Counter:
    """A sink that keeps nothing: the parser alone is measured."""

    triples = 0

    def triple(self, s: object, p: object, o: object) -> None:
        self.triples += 1


def main() -> None:
    sink = Counter()
    with open(sys.argv[1], "rb") as file:  # noqa: PTH123
        started = time.perf_counter()
        W3CNTriplesParser(sink=sink).parse(file)
        seconds = time.perf_counter() - started
    print(json.dumps({"triples": sink.triples, "seconds": seconds}))


if __name__ == "__main__":
    main()
