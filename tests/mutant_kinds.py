"""Systematic wrong versions of a function's body, one small change each, from its syntax tree.

The kinds are what students write when the tests let them: an argument that is not used, another
axis, an index beside, < for <=, sum for mean, a statement forgotten, a constant or the input
returned, the first row's answer for all rows, a copy not made. `mutants` gives (name, new tree).
"""

import ast
import copy
import itertools
import random
from typing import Iterator

SWAPPED_NAMES = {"sum": "mean", "mean": "sum", "max": "min", "min": "max", "any": "all",
                 "all": "any", "floor": "ceil", "ceil": "floor", "amax": "amin", "amin": "amax",
                 "argmax": "argmin", "argmin": "argmax", "maximum": "minimum",
                 "minimum": "maximum", "cumsum": "sort", "log2": "log", "log10": "log",
                 "append": "insert0", "reshape": "view", "startswith": "endswith",
                 "nansum": "sum", "nanmean": "mean", "logsumexp": "sum", "median": "mean"}
DROPPED_CALLS = {"list", "tuple", "sorted", "set", "dict", "abs", "float", "int", "round", "str",
                 "reversed", "asarray", "array", "sqrt", "exp"}
DROPPED_METHODS = {"clone", "copy", "contiguous", "detach", "float", "double", "lower", "strip",
                   "casefold", "to", "type_as", "clamp", "clip", "clamp_", "astype", "flatten",
                   "masked_fill", "abs", "sqrt", "exp", "log", "item", "rsqrt", "masked_fill_",
                   "unsqueeze", "transpose", "sort"}
EITHER_WAY = ("max", "min", "maximum", "minimum", "isclose", "allclose", "logaddexp")
ON_A_GPU = ("device", "non_blocking")       # keywords that mean nothing where tests run
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
            ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
            ast.IsNot: ast.Is}
COUNTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
           ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr,
           ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult}


def short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else text[:60] + " ... " + text[-25:]


def arguments_of(function: ast.FunctionDef) -> dict[str, ast.expr | None]:
    """{argument: its default or None}, without self."""
    inside = function.args
    plain = inside.posonlyargs + inside.args
    defaults = [None] * (len(plain) - len(inside.defaults)) + inside.defaults
    pairs = [*zip(plain, defaults), *zip(inside.kwonlyargs, inside.kw_defaults)]
    return {a.arg: d for a, d in pairs if a.arg not in ("self", "ctx", "cls")}


def taken_as_iterables(function: ast.FunctionDef) -> list[str]:
    """The arguments that may be generators, by their annotation (Iterable, Iterator) or name."""
    inside = function.args
    return [a.arg for a in inside.posonlyargs + inside.args + inside.kwonlyargs
            if a.annotation and "Iter" in ast.unparse(a.annotation) or a.arg == "parameters"]


def body_of(function: ast.FunctionDef) -> list[ast.stmt]:
    has_docstring = ast.get_docstring(function) is not None
    return function.body[1:] if has_docstring else function.body


def statements_in(function: ast.FunctionDef) -> Iterator[tuple[list, int]]:
    """(list of statements, index) of every statement of the body, nested ones too."""
    start = len(function.body) - len(body_of(function))
    todo = [(function.body, start)]
    while todo:
        block, first = todo.pop()
        for i in range(first, len(block)):
            yield block, i
            for name in ("body", "orelse", "finalbody"):
                inner = getattr(block[i], name, None)
                if isinstance(inner, list) and inner and isinstance(inner[0], ast.stmt):
                    todo.append((inner, 0))


def skipped(function: ast.FunctionDef) -> Iterator[tuple[str, callable]]:
    """A statement forgotten; an `if` that always or never holds; a loop that stops early."""
    for block, i in statements_in(function):
        node = block[i]
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.Expr, ast.Raise, ast.Continue,
                             ast.Break, ast.Assert)):
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                yield f"skips: {short(node)}", lambda b=block, i=i: b.__setitem__(i, ast.Pass())
        if isinstance(node, ast.If):
            for value in (True, False):
                yield (f"always {value}: if {short(node.test)}",
                       lambda n=node, v=value: setattr(n, "test", ast.Constant(v)))
        if isinstance(node, ast.For):
            yield (f"stops after one round: for {short(node.target)} in {short(node.iter)}",
                   lambda n=node: n.body.append(ast.Break()))


def within(function: ast.FunctionDef) -> Iterator[ast.AST]:
    for part in body_of(function):
        yield from ast.walk(part)


def changed(node: ast.AST, field: str, value, index: int | None = None):
    if index is None:
        return lambda: setattr(node, field, value)
    return lambda: getattr(node, field).__setitem__(index, value)


def expressions(function: ast.FunctionDef) -> Iterator[tuple[str, callable]]:
    """One operator, name, number, keyword or operand of an expression changed."""
    for node in within(function):
        if isinstance(node, ast.Compare):
            for i, op in enumerate(node.ops):
                if type(op) in COMPARED:
                    yield f"{COMPARED[type(op)].__name__} in: {short(node)}", changed(
                        node, "ops", COMPARED[type(op)](), i)
        if isinstance(node, ast.BinOp) and type(node.op) in COUNTED:
            yield f"{COUNTED[type(node.op)].__name__} in: {short(node)}", changed(
                node, "op", COUNTED[type(node.op)]())
        if isinstance(node, ast.BoolOp):
            for i in range(len(node.values)):
                yield f"without {short(node.values[i])} in: {short(node)}", (
                    lambda n=node, i=i: n.values.pop(i))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)) \
                and not isinstance(node.operand, ast.Constant):
            yield f"without its sign: {short(node)}", changed(node, "op", ast.UAdd() if isinstance(
                node.op, ast.USub) else ast.Not()) if isinstance(node.op, ast.USub) else (
                lambda n=node: setattr(n, "operand", ast.UnaryOp(ast.Not(), n.operand)))
        if isinstance(node, ast.Constant) and type(node.value) is int:
            for value in {node.value + 1, node.value - 1, -node.value} - {node.value}:
                yield f"{value} for the {node.value} of column {node.col_offset}", changed(
                    node, "value", value)
        if isinstance(node, ast.Constant) and type(node.value) is float:
            yield f"twice the {node.value} of column {node.col_offset}", changed(
                node, "value", 2 * node.value or 1.0)
        if isinstance(node, ast.Constant) and type(node.value) is bool:
            yield f"{not node.value} for {node.value} of column {node.col_offset}", changed(
                node, "value", not node.value)
        if isinstance(node, ast.Slice):
            for side in ("lower", "upper"):
                if getattr(node, side) is not None:
                    yield f"without {side} bound: {short(node)}", changed(node, side, None)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) \
                and len(node.slice.elts) == 2:
            yield f"swaps the indices of {short(node)}", changed(
                node.slice, "elts", node.slice.elts[::-1])
        if isinstance(node, ast.comprehension):
            for i in range(len(node.ifs)):
                yield f"without if {short(node.ifs[i])}", (lambda n=node, i=i: n.ifs.pop(i))
        if isinstance(node, ast.IfExp):
            for value in (True, False):
                yield f"always {value}: {short(node)}", changed(node, "test", ast.Constant(value))


def calls(function: ast.FunctionDef) -> Iterator[tuple[str, callable]]:
    """A call dropped, renamed, or without one of its keywords or its axis."""
    parents = {child: (node, field, i) for node in within(function)
               for field, value in ast.iter_fields(node) for i, child in
               (enumerate(value) if isinstance(value, list) else [(None, value)])
               if isinstance(child, ast.AST)}
    for node in within(function):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in SWAPPED_NAMES and isinstance(node.func, ast.Attribute):
            if SWAPPED_NAMES[name] != "insert0":
                yield f"{SWAPPED_NAMES[name]} for {name} in: {short(node)}", changed(
                    node.func, "attr", SWAPPED_NAMES[name])
        elif name in SWAPPED_NAMES and name in ("min", "max", "any", "all"):
            yield f"{SWAPPED_NAMES[name]} for {name} in: {short(node)}", changed(
                node.func, "id", SWAPPED_NAMES[name])
        for i, word in enumerate(node.keywords):
            if word.arg and word.arg not in ON_A_GPU:
                yield f"without {word.arg} in: {short(node)}", (
                    lambda n=node, i=i: n.keywords.pop(i))
        if node in parents:
            parent, field, i = parents[node]
            inner = node.args[0] if name in DROPPED_CALLS and node.args else (
                node.func.value if name in DROPPED_METHODS and isinstance(
                    node.func, ast.Attribute) and not isinstance(parent, ast.Expr) else None)
            if inner is not None and not isinstance(inner, (ast.Starred, ast.GeneratorExp)):
                yield f"without {name}(): {short(node)}", changed(parent, field, inner, i)


def unused(function: ast.FunctionDef) -> Iterator[tuple[str, callable]]:
    """An argument that is never looked at: its default, 0 or 1 stands in its place."""
    for name, default in arguments_of(function).items():
        uses = [n for n in within(function) if isinstance(n, ast.Name) and n.id == name
                and isinstance(n.ctx, ast.Load)]
        for value in ([default] if default is not None else []) + [ast.Constant(0),
                                                                    ast.Constant(1)]:
            if uses and not (isinstance(value, ast.Constant) and default is not value
                             and isinstance(default, ast.Constant)
                             and default.value == value.value):
                def put(uses=uses, value=value):
                    for use in uses:
                        use.__class__ = type(value)
                        use.__dict__ = {**copy.deepcopy(value).__dict__}
                yield f"{name} is not used, but {short(value)}", put


def answers(function: ast.FunctionDef) -> Iterator[tuple[str, callable]]:
    """The whole body: a constant, an argument, or the right answer's first or last row for all."""
    start = len(function.body) - len(body_of(function))
    inner = [n for n in within(function) if isinstance(n, (ast.Yield, ast.YieldFrom))]
    texts = ["None", "0", "1", "True", "False", "''", "[]", "{}", "0.5",
             *arguments_of(function)]
    for text in [] if inner else texts:
        yield f"only: return {text}", (lambda text=text: function.body.__setitem__(
            slice(start, None), ast.parse(f"return {text}").body))
    for block, i in statements_in(function):
        node = block[i]
        if isinstance(node, ast.Return) and node.value is not None:
            for rows in ("first", "last"):
                yield f"the {rows} row for all: {short(node)}", (
                    lambda n=node, rows=rows: setattr(n, "value", ast.Call(
                        ast.Name(f"__{rows}_row__", ast.Load()), [n.value], [])))
    for name in arguments_of(function):
        yield f"the first row of {name} for all", (lambda name=name: function.body.insert(
            start, ast.parse(f"{name} = __first_row__({name})").body[0]))
    for name in taken_as_iterables(function):
        yield f"looks at {name} once before (a generator is then empty)", (
            lambda name=name: function.body.insert(start, ast.parse(
                f"__look_through__({name})").body[0]))


def swapped(function: ast.FunctionDef) -> Iterator[tuple[str, callable]]:
    """Two neighbouring arguments of a call exchanged; one argument of the function for another."""
    for node in within(function):
        if isinstance(node, ast.Call) and not any(isinstance(a, ast.Starred) for a in node.args) \
                and getattr(node.func, "attr", getattr(node.func, "id", "")) not in EITHER_WAY:
            for i in range(len(node.args) - 1):
                if ast.dump(node.args[i]) != ast.dump(node.args[i + 1]):
                    yield f"swaps arguments {i + 1} and {i + 2} of {short(node)}", (
                        lambda n=node, i=i: n.args.__setitem__(
                            slice(i, i + 2), n.args[i:i + 2][::-1]))
    names = list(arguments_of(function))
    for name, other in zip(names, names[1:]):
        uses = [n for n in within(function) if isinstance(n, ast.Name) and n.id in (name, other)
                and isinstance(n.ctx, ast.Load)]

        def exchange(uses=uses, pair={name: other, other: name}):
            for use in uses:
                use.id = pair[use.id]
        yield f"{name} and {other} are exchanged", exchange


KINDS = (unused, answers, skipped, expressions, calls, swapped)


def sample(function: ast.FunctionDef, found: list[tuple], size: int) -> list[tuple]:
    """At most `size` of them, from each kind in its turn. Left out are bodies that are constant
    (without a sample they are tried) and names that would never be given a value."""
    stored = [n.id for n in within(function) if isinstance(n, ast.Name)
              and isinstance(n.ctx, ast.Store)]
    empty = tuple(f"skips: {name} = " for name in stored if stored.count(name) == 1)
    rng, by_kind = random.Random(function.name), {}
    for mutant in found:
        if not mutant[2].startswith(("only: ", *empty)):
            by_kind.setdefault(mutant[0], []).append(mutant)
    queues = [rng.sample(queue, len(queue)) for queue in by_kind.values()]
    chosen = []
    while len(chosen) < size and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    return sorted(chosen[:size], key=found.index)


def mutants(function: ast.FunctionDef, size: int | None = None) -> list[tuple[str, ast.AST]]:
    """(name, changed copy) of the mutants of a function, all or a sample; names are unique."""
    found, counts = [], {}
    for kind in KINDS:
        for number, (name, _) in enumerate(list(kind(copy.deepcopy(function)))):
            counts[name] = counts.get(name, 0) + 1
            label = name if counts[name] == 1 else f"{name} ({counts[name]})"
            found.append((KINDS.index(kind), number, label))
    made = []
    for at, number, label in found if size is None else sample(function, found, size):
        fresh = copy.deepcopy(function)
        next(itertools.islice(KINDS[at](fresh), number, None))[1]()
        if ast.dump(fresh) != ast.dump(function):
            made.append((label, ast.fix_missing_locations(fresh)))
    return made


# ---------------------------------------------------------------- what mutants call

applied = []                    # whether a mutant of rows met a batch at all


def _rows(value, take: slice):
    """A batch in which every row is the chosen one; other values as they are."""
    if type(value).__module__.split(".")[0] in ("torch", "numpy"):
        applied.extend([1] * (getattr(value, "ndim", 0) >= 1))
        if getattr(value, "ndim", 0) >= 1 and value.shape[0] > 1:
            index = [range(value.shape[0])[take][0]] * value.shape[0]
            return value[index]
        return value
    if type(value) is tuple:            # several results: each is a batch, perhaps
        return tuple(_rows(part, take) for part in value)
    if type(value) is list:
        applied.append(1)
        return value[take] * len(value)
    return value


def first_row(value):
    return _rows(value, slice(0, 1))


def last_row(value):
    return _rows(value, slice(-1, None))


def look_through(value):
    """Use up a generator; leave everything else alone."""
    if hasattr(value, "__next__"):
        for _ in value:
            pass
