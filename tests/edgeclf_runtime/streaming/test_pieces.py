from __future__ import annotations

import threading
from collections import Counter

import pytest

from edgeclf_runtime.streaming.pieces import MERGED_AT_MOST, Piece, PieceQueue
from edgeclf_runtime.streaming.statistics import StreamStatistics


def queue_of(length, when_late, merge=lambda older, newer: older + newer):
    counts = StreamStatistics(None, "never")
    return PieceQueue(length, when_late, merge, counts), counts


def filled(pieces, contents):
    for k, content in enumerate(contents):
        assert pieces.put(Piece(content, due=float(k)))
    pieces.close()
    return list(iter(pieces.get, None))


def test_order_is_kept():
    pieces, counts = queue_of(3, "block")
    assert [piece.content for piece in filled(pieces, "abc")] == ["a", "b", "c"]
    assert (counts.drops, counts.merges) == (0, 0)


def test_block_waits_for_room_and_holds_no_more():
    pieces, counts = queue_of(2, "block")
    done = []

    def put():
        for k in range(50):
            pieces.put(Piece(k, 0.0))
            done.append(k)

    thread = threading.Thread(target=put)
    thread.start()
    for k in range(50):
        piece = pieces.get()
        assert piece.content == k
        assert len(done) <= k + 1 + 2
    thread.join(10)
    assert (len(done), counts.drops, counts.merges) == (50, 0, 0)


def test_drop_oldest():
    pieces, counts = queue_of(2, "drop-oldest")
    assert [piece.content for piece in filled(pieces, "abcdef")] == ["e", "f"]
    assert (counts.drops, counts.merges) == (4, 0)


def test_merge_keeps_the_time_of_the_newer():
    pieces, counts = queue_of(2, "merge")
    first, second = filled(pieces, "abcdef")
    assert (first.content, first.due) == ("a", 0.0)
    assert (second.content, second.due, second.slices) == ("bcdef", 5.0, 5)
    assert (counts.drops, counts.merges) == (0, 4)


def test_merged_pieces_do_not_grow_without_end():
    pieces, counts = queue_of(2, "merge", merge=lambda older, newer: Counter(older) + Counter(newer))
    total = 5 * MERGED_AT_MOST
    left = filled(pieces, [Counter([k]) for k in range(total)])
    assert max(piece.slices for piece in left) <= MERGED_AT_MOST
    kept = [k for piece in left for k in sorted(piece.content)]
    assert kept == list(range(total))[-len(kept) :]  # what is lost is the oldest
    assert sum(piece.slices for piece in left) + counts.drops == total
    assert counts.merges + len(left) + counts.drops >= total


def test_what_cannot_be_merged_is_counted_as_dropped():
    pieces, counts = queue_of(1, "merge", merge=lambda _older, newer: newer)
    contents = [object(), object(), object()]
    assert [piece.content for piece in filled(pieces, contents)] == contents[2:]
    assert (counts.drops, counts.merges) == (2, 0)


@pytest.mark.parametrize("discard", [False, True])
def test_closed(discard):
    pieces, _ = queue_of(2, "block")
    pieces.put(Piece("a", 0.0))
    pieces.close(discard)
    assert not pieces.put(Piece("b", 0.0))
    assert [piece.content for piece in iter(pieces.get, None)] == ([] if discard else ["a"])


def test_closing_lets_go_of_who_waits():
    full, _ = queue_of(1, "block")
    full.put(Piece("a", 0.0))
    empty, _ = queue_of(1, "block")
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(full.put(Piece("b", 0.0)))),
        threading.Thread(target=lambda: results.append(empty.get())),
    ]
    for thread in threads:
        thread.start()
    full.close()
    empty.close()
    for thread in threads:
        thread.join(10)
    assert sorted(results, key=str) == [False, None]
