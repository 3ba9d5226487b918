from search.failures import summary, told


def fail():
    msg = "shapes differ:\n  [2, 3] and [3, 2]"
    raise ValueError(msg)


def caught(frames=8):
    try:
        fail()
    except ValueError as cause:
        return told(cause, frames)


def test_the_message_is_one_line_and_frames_follow_it():
    first, *places = caught().splitlines()
    assert first == "shapes differ: [2, 3] and [3, 2]"
    assert [place.split()[1] for place in places] == ["caught", "fail"]
    assert places[-1].startswith("search/test_failures.py:6 ")
    assert summary(caught()) == first


def test_only_the_innermost_frames_are_kept():
    assert [line.split()[-1] for line in caught(frames=1).splitlines()[1:]] == ["fail"]


def test_a_cause_without_words_is_named():
    assert told(MemoryError()) == "MemoryError"
    assert summary("") == "no reason recorded"
