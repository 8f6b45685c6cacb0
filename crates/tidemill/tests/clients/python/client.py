"""Pushes payments, asks for decisions, reads and follows views, all by generated code."""

import sys
import time

import grpc
from google.protobuf import json_format

from tidemill.tables import cards_pb2, payments_pb2, places_pb2, score_answer_pb2
from tidemill.v1 import common_pb2, decide_pb2, decide_pb2_grpc, ingest_pb2, ingest_pb2_grpc, view_pb2, view_pb2_grpc

PATIENCE = 30


def problem(error):
    """The problem that a call failed with."""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            mark = b"type.googleapis.com/tidemill.v1.Problem"
            at = value.index(mark) + len(mark)
            # A tag and a length stand before the problem; it is shorter than 16 KiB.
            return common_pb2.Problem.FromString(value[at + (2 if value[at + 1] < 128 else 3):])
    raise AssertionError("the call carries no problem")


def push(ingest):
    rows = payments_pb2.PaymentsRows()
    for amount in ("1.50", "2.25"):
        row = rows.rows.add(card="python", amount=amount, at=1_700_000_000_123)
        row.tags.extend(["new", "online"])
        row.place.city, row.place.zip = "Zürich", 8001
        row.limits["day"] = 100
    reply = ingest.Push(ingest_pb2.PushRequest(source="payments", rows=rows.SerializeToString()))
    assert reply.accepted == 2 and reply.durability == common_pb2.DURABILITY_FLUSHED, reply

    def messages():
        for number in range(20):
            columns = payments_pb2.PaymentsColumns(rows=100)
            columns.card.extend(["stream"] * 100)
            columns.amount.extend(["0.01"] * 100)
            # Only the first of each ten has a time.
            columns.at.extend([number] * 100)
            columns.at_present = bytes(sum(1 << bit for bit in range(8) if (byte * 8 + bit) % 10 == 0) for byte in range(13))
            yield ingest_pb2.PushRequest(
                source="payments" if number == 0 else "",
                columns=columns.SerializeToString(),
                durability=common_pb2.DURABILITY_PROCESS,
                id=number,
            )

    acks = list(ingest.PushStream(messages(), timeout=PATIENCE))
    assert [ack.id for ack in acks] == list(range(20)), acks
    assert all(ack.accepted == 100 and ack.durability == common_pb2.DURABILITY_PROCESS for ack in acks), acks
    assert [ack.offset for ack in acks] == list(range(acks[0].offset, acks[0].offset + 2000, 100)), acks


def refusals(ingest):
    try:
        ingest.Push(ingest_pb2.PushRequest(source="payment", json=b"{}"))
        raise AssertionError("there is no such source")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
        assert problem(error).help == "did you mean 'payments'?", problem(error)
    try:
        ingest.Push(ingest_pb2.PushRequest(source="payments", rows=b"\x0a\x00"))
        raise AssertionError("a card is NOT NULL")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        assert "column 'card' is NOT NULL" in problem(error).records[0].reason, problem(error)


def ask(decide):
    told = decide.Ask(decide_pb2.AskRequest(endpoint="score", json=b'{"card":"python","amount":3}'), timeout=PATIENCE)
    assert b'"card":"python","n":3' in told.json and told.rule and told.version > 0, told
    row = payments_pb2.Payments(card="python", amount="4.00")
    told = decide.Ask(decide_pb2.AskRequest(endpoint="score", row=row.SerializeToString()), timeout=PATIENCE)
    assert b'"card":"python","n":4' in told.json, told
    asked = decide_pb2.AskRequest(endpoint="score", row=row.SerializeToString(), format=common_pb2.ROW_FORMAT_ROWS)
    told = decide.Ask(asked, timeout=PATIENCE)
    rows = score_answer_pb2.ScoreAnswerRows.FromString(told.rows).rows
    assert [(row.card, row.n) for row in rows] == [("python", 5)] and not told.json and told.rule, told
    requests = (
        decide_pb2.AskRequest(endpoint="score", json=b'{"card":"many","amount":1}', id=number) for number in range(200)
    )
    replies = {reply.id: reply for reply in decide.AskStream(requests, timeout=PATIENCE)}
    assert sorted(replies) == list(range(200)), sorted(replies)
    for number in range(200):
        assert f'"n":{number + 1}}}'.encode() in replies[number].json, replies[number]


def read(view):
    deadline = time.monotonic() + PATIENCE
    while True:
        key = [view_pb2.KeyPart(column="card", value="stream")]
        reply = view.Read(view_pb2.ReadRequest(view="cards", key=key, format=common_pb2.ROW_FORMAT_ROWS))
        rows = cards_pb2.CardsRows.FromString(reply.rows).rows
        if rows and rows[0].n == 2000:
            break
        assert time.monotonic() < deadline, rows
        time.sleep(0.01)
    assert rows[0].total == "20.00" and rows[0].last_at == 19, rows
    places = list(view.Scan(view_pb2.ReadRequest(view="places", format=common_pb2.ROW_FORMAT_ROWS)))
    rows = [row for page in places for row in places_pb2.PlacesRows.FromString(page.rows).rows]
    assert [json_format.MessageToDict(row) for row in rows] == [
        {"card": "python", "tags": ["new", "online"], "place": {"city": "Zürich", "zip": 8001}, "limits": {"day": "100"}}
    ] * 2, rows


def follow(view, ingest):
    changes = view.Follow(view_pb2.FollowRequest(view="cards"), timeout=PATIENCE)
    first = next(changes)
    assert first.snapshot and b'"card":"stream","n":2000' in first.inserted, first
    ingest.Push(ingest_pb2.PushRequest(source="payments", json=b'{"card":"followed","amount":1}'))
    # What was asked before may come first.
    change = next(change for change in changes if b'"card":"followed"' in change.inserted)
    assert b'"card":"followed","n":1' in change.inserted and not change.snapshot, change
    changes.cancel()


with grpc.insecure_channel(sys.argv[1]) as channel:
    ingest = ingest_pb2_grpc.IngestStub(channel)
    decide, view = decide_pb2_grpc.DecideStub(channel), view_pb2_grpc.ViewStub(channel)
    push(ingest)
    refusals(ingest)
    ask(decide)
    read(view)
    follow(view, ingest)
print("all is well")
