"""One model at a server, asked as our own models are: text to ids, Steps, and questions."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from gpt.capabilities import Capabilities
from gpt.errors import UserError
from gpt.interpret.answers import LikelyPath, Waterfall
from gpt.limits import Limits
from gpt.progress import NOBODY, Watcher
from gpt.remote import odds, plain_text
from gpt.remote.beam import likely_paths
from gpt.remote.chat import Turn, turn
from gpt.remote.http import Http
from gpt.remote.loop import RequestCancelledError
from gpt.remote.server import Piece, Reading, Server
from gpt.remote.steps import StepMaker, StopText, finish_of
from gpt.remote.words import draw
from gpt.settings import Sampling, check_setting
from gpt.step import FinishReason, Step

EXACT_SIZE = 1000
"""Tokens in the largest vocabulary whose whole distribution is read at every token."""
_CANDIDATES = 1000
"""Candidates from which a waterfall is computed, if the server names so many."""


class Generation(Iterator[Step]):
    """Steps of a text that is being drawn, and why it ended, once it has.

    What draws does not refer to it, so that a text which nobody wants any more ends at once, and
    not when the garbage collector comes: perhaps in the middle of another request.
    """

    def __init__(self, drawn: Iterator[Step], finish_reason: FinishReason | None = None) -> None:
        """drawn: its return value is why it ended."""
        self._drawn = drawn
        self.finish_reason = finish_reason

    def __next__(self) -> Step:
        try:
            step = next(self._drawn)
        except StopIteration as end:
            self.finish_reason = end.value or self.finish_reason
            raise
        self.finish_reason = step.finish_reason
        return step


class Session:
    """A model at a server."""

    def __init__(self, http: Http, server: Server, capabilities: Capabilities) -> None:
        self.server = server
        self.capabilities = capabilities
        self.model = server.model
        self._http = http
        self._drops_blank: bool | None = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def drops_blank(self) -> bool:
        """Whether the first token of a text begins with a blank that the text does not have."""
        if self._drops_blank is None:
            ids = self.server.tokenize("a", is_start=True)
            pieces = self.server.pieces(ids)
            self._drops_blank = b"".join(pieces[i].bytes for i in ids).startswith(b" ")
        return self._drops_blank

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with the token in front that begins one. The name of a special token in it
        is ordinary characters, as in encode_more."""
        return self._plain(text, lambda part: self.server.tokenize(part, is_start=True))

    def encode_more(self, text: str) -> list[int]:
        """Ids of a text that continues another one."""
        return self._plain(text, self._more)

    def _plain(self, text: str, start: plain_text.Encode) -> list[int]:
        if not self.server.reads_names:
            return start(text)
        return plain_text.encode(self.server, text, start, self._more)

    def _more(self, text: str) -> list[int]:
        if not text:
            return []
        if self.drops_blank:  # a blank is put before every text; not before what follows a line
            head, ids = (self.server.tokenize(t, is_start=False) for t in ("\n", "\n" + text))
            if ids[: len(head)] == head:
                return ids[len(head) :]
        return self.server.tokenize(text, is_start=False)

    def decode(self, ids: Sequence[int], *, whole: bool = True) -> str:
        """The text of ids. whole: they are a text from its start."""
        pieces = self.server.pieces(ids)
        data = b"".join(pieces[i].bytes for i in ids)
        if whole and self.drops_blank:
            data = data.removeprefix(b" ")
        return data.decode("utf-8", "replace")

    def pieces(self, ids: Sequence[int]) -> dict[int, Piece]:
        """Bytes and names of tokens."""
        self.check(ids)
        return self.server.pieces(ids)

    def check(self, ids: Sequence[int]) -> None:
        """Raise UserError naming an id that the model does not have."""
        size = self.model.vocab_size or 2**31
        if bad := next((i for i in ids if not 0 <= i < size), None):
            raise UserError(f"there is no token {bad}; this model has the ids 0 to {size - 1}")

    def turn(self, ids: Sequence[int], text: str, system: str = "") -> Turn:
        """A text with a person's turn after it, as the server's chat template writes it."""
        return turn(self.server, ids, text, system, self.encode_more)

    def score(
        self, ids: Sequence[int], *, start: int = 0, top: int = 10, watcher: Watcher = NOBODY
    ) -> Iterator[Step]:
        """A Step for every token of a text from start on. They end early if it is cancelled."""
        self._check_prompt(ids)
        maker, pieces = self._maker(ids[:start]), self.server.pieces(ids)
        if ids and start == 0:
            yield maker.first(ids[0], pieces[ids[0]])
        position = max(1, start)
        if self.capabilities.prompt == "none" and position < len(ids):
            for token_id in ids[position:]:
                yield maker.step(Reading(token_id), pieces, 0)
            return
        readings = self.server.read(ids, position, self._ask(top), watcher)
        try:
            for reading in readings:
                watcher.tell(f"reading {position:,} of {len(ids):,} tokens")
                yield maker.step(reading, self._with_candidates(reading, top), top)
                position += 1
        except RequestCancelledError:
            return

    def generate(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        limits: Limits = Limits(),
        *,
        top: int = 10,
        watcher: Watcher = NOBODY,
    ) -> Generation:
        """Draw tokens after ids. Raises UserError for a prompt that does not fit."""
        reason = self.blocked(ids, limits)
        if reason:
            return Generation(iter(()), reason)
        return Generation(self._drawn(list(ids), sampling, limits, top, watcher))

    def blocked(self, ids: Sequence[int], limits: Limits) -> FinishReason | None:
        """Why no token at all can be drawn after ids, or None."""
        check_setting("max_new_tokens", limits.max_new_tokens)
        if limits.slide:
            raise UserError("a server's context cannot slide; turn that off")
        if not ids:
            raise UserError("the prompt is empty; give the model at least one token to go on from")
        self._check_prompt(ids)
        if limits.max_new_tokens < 1:
            return "length"
        return "context full" if len(ids) == self.model.block_size else None

    def _drawn(
        self,
        path: list[int],
        sampling: Sampling,
        limits: Limits,
        top: int,
        watcher: Watcher,
    ) -> Generator[Step, None, FinishReason | None]:
        size, n = self.model.vocab_size, limits.max_new_tokens
        room = self.model.block_size - len(path) if self.model.block_size else n
        maker, stop = self._maker(path), StopText(limits.stop)

        plan = self._plan(sampling)
        n_asked = self._ask(max(top, plan.candidates))

        def after(reading: Reading) -> dict[int, float]:
            return odds.after_settings(reading, size, plan, path)

        readings = draw(self.server, path, sampling, min(n, room), n_asked, watcher)
        with closing(readings) as drawing:
            try:
                for count, reading in enumerate(drawing, 1):
                    if reading.token_id < 0:
                        return reading.finish
                    step = maker.step(reading, self._with_candidates(reading, top), top, after)
                    path.append(reading.token_id)
                    reason = finish_of(
                        step, stop, cancelled=watcher.cancelled(), count=count, limits=(n, room)
                    )
                    yield step._replace(finish_reason=reason)
                    if reason:
                        return reason
            except RequestCancelledError:
                return "cancelled"
        return None

    def waterfall(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        *,
        chosen: int | None = None,
        top: int = 10,
        watcher: Watcher = NOBODY,
    ) -> Waterfall:
        """How the settings change the distribution after ids, computed from the candidates.

        gpt/remote/odds.py says what is exact. `drawn` is -1: only the server knows what it would
        draw. Raises RequestCancelledError.
        """
        self._check_context(ids)
        n = min(max(top, _CANDIDATES), self.capabilities.candidates or 2**31)
        n = min(n, self.model.vocab_size or n)
        found = self.server.following([ids], n, watcher)[0]
        model = odds.model_odds(found, self.model.vocab_size)
        stages = odds.stages_of(model, self._plan(sampling), ids)
        best = [i for i, _ in found[:top]] + stages[-1][1].best_first()[:top]
        shown = list(dict.fromkeys(best + ([] if chosen is None else [chosen])))
        return odds.waterfall(stages, self.pieces(shown), shown, len(ids), -1)

    def left_out(self, sampling: Sampling) -> tuple[str, ...]:
        """Names of the settings that act and that a waterfall does not show."""
        return self._plan(sampling).left_out

    def _plan(self, sampling: Sampling) -> odds.Plan:
        return odds.plan(self.capabilities.applied(sampling), self.server.order)

    def paths(
        self, ids: Sequence[int], *, width: int = 8, depth: int = 8, watcher: Watcher = NOBODY
    ) -> list[LikelyPath]:
        """The most probable continuations that a beam search finds, best first."""
        self._check_context(ids)
        if self.model.block_size:
            depth = min(depth, self.model.block_size - len(ids))
        if self.capabilities.candidates is not None:
            width = min(width, self.capabilities.candidates)
        return likely_paths(self.server, ids, width, depth, watcher)

    def options(
        self, ids: Sequence[int], options: Sequence[str], *, top: int, watcher: Watcher = NOBODY
    ) -> list[list[Step]]:
        """For each of several texts, its Steps after ids."""
        found = []
        for number, option in enumerate(options, 1):
            watcher.tell(f"option {number} of {len(options)}")
            path = [*ids, *self.encode_more(option)]
            silent = Watcher(watcher.cancelled)
            found.append(list(self.score(path, start=len(ids), top=top, watcher=silent)))
        return found

    def _check_context(self, ids: Sequence[int]) -> None:
        if not ids:
            raise UserError("the first token has no context, so it has no distribution")
        self._check_prompt(ids)

    def _check_prompt(self, ids: Sequence[int]) -> None:
        """Raise UserError for ids that the model does not have, or that are too many."""
        self.check(ids)
        most = self.model.block_size
        if most and len(ids) > most:
            raise UserError(
                f"the prompt has {len(ids):,} tokens and this server reads {most:,}; shorten it, "
                "or start the server with a longer context"
            )

    def _ask(self, top: int) -> int:
        """Candidates to ask for: all in a small vocabulary, so that entropies are exact."""
        most, size = self.capabilities.candidates, self.model.vocab_size
        if 0 < size <= EXACT_SIZE and (most is None or most >= size):
            return size
        top = max(1, top)  # a server that is asked for none may not give the token's own number
        return top if most is None else min(top, most)

    def _maker(self, before: Sequence[int]) -> StepMaker:
        pieces = self.server.pieces(before)
        return StepMaker(
            [pieces[i].bytes for i in before],
            vocab_size=self.model.vocab_size,
            drops_blank=self.drops_blank,
        )

    def _with_candidates(self, reading: Reading, top: int) -> dict[int, Piece]:
        """The pieces of a token and of the candidates that are shown."""
        ids = [reading.token_id, *(i for i, _ in reading.top[:top])]
        self.check(ids)
        return self.server.pieces(ids)
