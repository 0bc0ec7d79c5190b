"""The form of a new order: fields that speak requirement, errors at the field that the hub names."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.validation_element import ValidationElement

from yunhe.console.orders.entry import CPU, SIZES, Entry, Program, values
from yunhe.console.view import View
from yunhe.core.demand import Preference
from yunhe.core.errors import YunheError
from yunhe.core.supply import STACKS
from yunhe.sdk.checked import checked
from yunhe.wire.api import OrderSpec

DEBOUNCE_MS = 300
_EXAMPLES = {
    "name": "my job",
    "size": "0.5",
    "requirement.memory": "2GiB",
    "requirement.card_memory": "80GB",
    "requirement.slots": "1",
    "requirement.bandwidth": "10Gbps",
    "requirement.max_carbon": "400g/kWh",
    "requirement.tier": "0",
    "requirement.sites": "qingpu, guian",
    "latency": "20ms",
    "data_size": "100GB",
    "duration": "10m",
    "start_at": "in 2h",
    "deadline": "6h",
    "budget": "2CNY",
    "array": "1",
    "priority": "0",
    "retries": "0",
    "file_name": "job.py",
    "outputs": "result.csv",
    "env": "SEED=7",
}
_SIZE_EXAMPLES = {"cores": "0.5", "cards": "8", "compute": "0.05TFLOPS@fp64", "work": "3EFLOP@bf16"}
_MORE = ("name", "array", "retries", "priority", "outputs", "env", "file_name", "file_text")
# Fields of the order that are written in fields of other names.
_AT = {
    **{f"requirement.{size}": "size" for size in SIZES},
    "requirement": "size",
    "requirement.latency": "latency",
    "requirement.data": "data_at",
    "requirement.data.size": "data_size",
    "run.env": "env",
    "run.outputs": "outputs",
    "run.files": "file_name",
    "run": "run.command",
    "run.image": "image.cpu",
}
_INDEX = re.compile(r"\[.*?\]")

Options = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be chosen, by id with its name in the viewer's language."""

    places: Options
    regions: Options
    chips: Options


class Form:
    def __init__(self, view: View, entry: Entry, choices: Choices, changed: Callable[[], None]) -> None:
        self._view, self.entry, self._choices, self._changed = view, entry, choices, changed
        self._fields: dict[str, ValidationElement[Any]] = {}
        self._marked: ValidationElement[Any] | None = None
        self._draw()

    def spec(self) -> OrderSpec:
        """The order as it stands. Raises InvalidInput naming the field."""
        return checked(OrderSpec, values(self.entry))

    def mark(self, error: YunheError | None) -> str:
        """Show an error at its field, and take the one before away. The field's label; empty: there is none here."""
        if self._marked is not None:
            self._marked.error = None
            self._marked = None
        if error is None or not error.field:
            return ""
        self._marked = self._field(_INDEX.sub("", error.field))
        if self._marked is None:
            return ""
        self._marked.error = f"{error.message}. {error.hint}" if error.hint else error.message
        if self._marked in [self._fields[name] for name in _MORE]:
            self._more.open()
        return str(self._marked.props["label"])

    def _field(self, path: str) -> ValidationElement[Any] | None:
        while path:
            found = self._fields.get(_AT.get(path, path))
            if found is not None:
                return found
            path = path.rpartition(".")[0]
        return None

    # --- drawing ----------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        with self._card("new.job"):
            self._draw_programs()
        with self._card("new.size"), self._grid():
            self._select("size_by", {name: self._view.say(f"new.by_{name}") for name in SIZES}, SIZES[0])
            self._text("size", example=_SIZE_EXAMPLES[self.entry.text("size_by") or SIZES[0]])
            self._text("requirement.memory")
            self._select("requirement.chip", self._choices.chips)
            self._text("requirement.card_memory")
            self._text("requirement.slots")
        with self._card("new.place"), self._grid():
            self._text("latency")
            self._select("latency_place", self._choices.places)
            kinds = {"rtt": self._view.say("new.rtt"), "one-way": self._view.say("new.one_way")}
            self._select("latency_kind", kinds, "rtt")
            self._text("requirement.bandwidth")
            self._select("data_at", self._choices.places)
            self._text("data_size")
            self._select("requirement.residency", self._choices.regions)
            self._text("requirement.tier")
            self._text("requirement.max_carbon")
            self._text("requirement.sites")
        with self._card("new.terms"), self._grid():
            self._text("duration")
            self._text("start_at")
            self._text("deadline")
            self._text("budget")
            wishes = {wish.value: self._view.say(f"new.wish_{wish.value}") for wish in Preference}
            self._select("preference", wishes, Preference.COST)
        self._more = ui.expansion(self._view.say("new.more")).classes("yunhe-card")
        with self._more:
            self._draw_more()

    def _draw_more(self) -> None:
        with self._grid():
            for name in ("name", "array", "retries", "priority"):
                self._text(name)
            switch = ui.switch(self._view.say("new.network"), value=self.entry.network)
            switch.on_value_change(lambda event: self._set_network(bool(event.value)))
        for name in ("outputs", "env"):
            self._text(name, lines=True)
        self._text("file_name")
        self._text("file_text", lines=True)
        for name in ("outputs", "env", "file_name", "file_text"):
            self._fields[name].classes("full-width")

    def _draw_programs(self) -> None:
        self._box = ui.column().classes("full-width")
        self._draw_rows()

    def _draw_rows(self) -> None:
        self._box.clear()
        with self._box:
            for program in self.entry.programs:
                self._draw_program(program)
            more = ui.button(self._view.say("new.add_stack"), icon="add", on_click=self._add)
            more.props("flat dense no-caps")

    def _draw_program(self, program: Program) -> None:
        view = self._view
        with ui.element("div").classes("yunhe-fields"):
            stack = ui.select(
                sorted(STACKS, key=lambda s: (s != CPU, s)), value=program.stack, label=view.say("new.stack")
            )
            stack.props("outlined dense options-dense").on_value_change(lambda e: self._restack(program, e.value))
            path = "run.command" if program.stack == CPU else f"run.stacks.{program.stack}"
            command = self._input("new.command", program.command, "python3 -c 'print(6 * 7)'")
            command.classes("yunhe-span").on_value_change(lambda e: self._set(program, "command", e.value))
            image = self._input("new.image", program.image, "")
            image.on_value_change(lambda e: self._set(program, "image", e.value))
        self._fields[path] = command
        self._fields[f"image.{program.stack}"] = self._fields[f"run.images.{program.stack}"] = image

    def _add(self) -> None:
        used = {program.stack for program in self.entry.programs}
        self.entry.programs.append(Program(next((s for s in ("cuda", "cann", *sorted(STACKS)) if s not in used), CPU)))
        self._draw_rows()

    def _restack(self, program: Program, stack: str) -> None:
        program.stack = stack
        self._draw_rows()
        self._changed()

    def _set(self, program: Program, name: str, value: str | None) -> None:
        setattr(program, name, value or "")
        self._changed()

    def _set_network(self, value: bool) -> None:
        self.entry.network = value
        self._changed()

    def _write(self, name: str, value: str | None) -> None:
        self.entry.texts[name] = value or ""
        if name == "size_by":
            self._fields["size"].props(f'placeholder="{_SIZE_EXAMPLES[value or SIZES[0]]}"')
        self._changed()

    def _text(self, name: str, example: str = "", lines: bool = False) -> None:
        text = self.entry.texts.get(name, "")
        field = self._input(_label(name), text, example or _EXAMPLES.get(name, ""), lines)
        field.on_value_change(lambda event: self._write(name, event.value))
        self._fields[name] = field

    def _input(self, label: str, text: str, example: str, lines: bool = False) -> ui.input | ui.textarea:
        kind = ui.textarea if lines else ui.input
        field = kind(self._view.say(label), value=text, placeholder=example)
        return field.props(f"outlined dense stack-label debounce={DEBOUNCE_MS} autocomplete=off spellcheck=false")

    def _select(self, name: str, options: Options, default: str | None = None) -> None:
        chosen = self.entry.text(name) or default
        known = {**({chosen: chosen} if chosen else {}), **options}  # an order may name what this console cannot
        field = ui.select(
            dict(known),
            value=chosen,
            label=self._view.say(_label(name)),
            with_input=len(known) > 8,
            clearable=default is None,
        )
        field.props("outlined dense options-dense stack-label").on_value_change(
            lambda event: self._write(name, event.value)
        )
        self._fields[name] = field

    def _grid(self) -> ui.element:
        return ui.element("div").classes("yunhe-fields")

    def _card(self, key: str) -> ui.card:
        card = ui.card().classes("yunhe-card")
        with card:
            ui.label(self._view.say(key)).classes("yunhe-sub").props("role=heading aria-level=2")
        return card


def _label(name: str) -> str:
    return f"new.{name.rpartition('.')[2]}"


def named(rows: Sequence[Mapping[str, object]], key: str, names: str) -> Options:
    """By `key` of a table of facts, its column `names`; in the order of the table."""
    return {str(row[key]): str(row.get(names) or row[key]) for row in rows if row.get(key)}
