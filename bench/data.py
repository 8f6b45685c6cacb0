"""Data made of the files of `make nexmark-data`: the first events, the same ones in another order, or with other keys.

Every folder is made once, appears whole, and has the same bytes each time it is made.
"""

import itertools
import random
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Of fifty events so many are of each kind.
SHARES = {"person": 1, "auction": 3, "bid": 46}

# How many keys `keyed` has.
KEYS = 100_000


def files(data, table):
    return sorted(path for path in (Path(data) / table).iterdir() if not path.name.startswith("."))


def count_events(data):
    """The number of records under the three tables' folders."""
    total = 0
    for table in SHARES:
        for path in files(data, table):
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    total += block.count(b"\n")
    return total


def with_side_input(data):
    """The folder, with what q13 looks up."""
    if not (Path(data) / "side_input").exists():
        subprocess.run([HERE / "side_input.sh", data], check=True)
    return data


def cut(data, events, folder, parts=1):
    """The first events, a multiple of fifty, in so many files for each table; fifty events are in files of one number."""

    def write(into):
        for table, share in SHARES.items():
            outs = opened(into, table, parts)
            for index, line in enumerate(itertools.islice(lines(data, table), events // 50 * share)):
                outs[index // share % parts].write(line)
            closed(outs)

    return made(folder, write)


def shuffled(data, folder, seconds=4):
    """All events in another order: none comes after one whose event time is `seconds` greater."""

    def write(into):
        for table in SHARES:
            rng = random.Random(table)
            due = [(event_time(line) + rng.randrange(seconds * 1000), line) for line in lines(data, table)]
            due.sort(key=lambda pair: pair[0])
            outs = opened(into, table, 1)
            outs[0].writelines(line for _, line in due)
            closed(outs)

    return made(folder, write)


def keyed(data, events, folder, exponent):
    """The bids of the first events with one of `KEYS` keys each: of equal chance, or by Zipf's law when there is an exponent.

    Auction, bidder and channel follow from the key, so the queries that group by them have it for theirs.
    """
    keys = re.compile(rb'\{"auction":\d+,"bidder":\d+,"price":(\d+),"channel":"[^"]*",')

    def write(into):
        rng = random.Random(7)
        weights = [1 / rank**exponent if exponent else 1 for rank in range(1, KEYS + 1)]
        names = list(range(KEYS))
        rng.shuffle(names)
        count = events // 50 * SHARES["bid"]
        drawn = rng.choices(names, cum_weights=list(itertools.accumulate(weights)), k=count)
        outs = opened(into, "bid", 1)
        for key, line in zip(drawn, lines(data, "bid")):
            head = f'{{"auction":{1000 + key},"bidder":{1000 + key * 7919 % KEYS},"price":%s,"channel":"channel-{key % 10_000}",'
            outs[0].write(keys.sub(head.encode().replace(b"%s", rb"\1"), line, count=1))
        closed(outs)

    return made(folder, write)


def made(folder, write):
    """The folder, filled by `write` when it is not there yet."""
    folder = Path(folder).resolve()
    if not folder.exists():
        beside = folder.with_name(folder.name + ".part")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        write(beside)
        with_side_input(beside)
        beside.rename(folder)
    return folder


def lines(data, table):
    """The lines of a table, in the order of event time: it must have one file."""
    found = files(data, table)
    if len(found) != 1:
        raise RuntimeError(f"{data}/{table} has {len(found)} files; bench/generate.sh writes one")
    with found[0].open("rb") as file:
        yield from file


def opened(into, table, parts):
    (into / table).mkdir()
    return [(into / table / f"part-{part}.json").open("wb") for part in range(parts)]


def closed(outs):
    for out in outs:
        out.close()


TIME = re.compile(rb'"dateTime":"([^"]+)"')


def event_time(line):
    """Milliseconds; of the two times of an auction its own, not when it expires."""
    at = datetime.fromisoformat(TIME.search(line)[1].decode() + "+00:00")
    return round(at.timestamp() * 1000)
