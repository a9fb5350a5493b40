"""Which samples: an expression over the score columns, and over the source's own, as ids.

given_label == 'cat' and (mislabeled_score > 0.5 or kind == 'boundary')
site in ('B', 'C') and not is_label_issue
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import ShapeError, SourceError
from ..explore.kinds import KINDS
from ..sources.convert import some
from ..sources.source import Source
from ..sources.table import TableSource

COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], pc.Expression]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


SCORES = {kind: f"{kind.replace('-', '_')}_score" for kind in KINDS[1:]}


def select(shards: Sequence[Path], source: Source, where: str) -> pa.Table:
    """`id` and `row` of the samples for which `where` holds, in the order of the source; one shard in memory at a time.

    `where` compares columns of the score table, or of the source's own table, with numbers and strings by
    `== != < <= > >= in`, joined by `and or not`; nothing is evaluated but that. A null compares false. Raises
    `ShapeError` for anything else, an unknown column, or a comparison that the types do not allow.
    """
    tree = _parsed(where)
    condition = _expression(tree, where)
    names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})
    own = own_columns(shards, source, where)
    found: list[pa.Table] = []
    first = 0
    for shard in shards:
        table = pq.read_table(shard)
        for name in own:
            table = table.append_column(name, _own_column(source, name, first, len(table)))
        first += len(table)
        try:
            found.append(_decoded(table).filter(condition).select(["id", "row"]))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as cause:
            kinds = ", ".join(f"{name} is {table.schema.field(name).type}" for name in names)
            raise ShapeError(f"where={where!r}: {kinds}; compare like with like ({cause})") from cause
    return pa.concat_tables(found)


def own_columns(shards: Sequence[Path], source: Source, where: str) -> list[str]:
    """The columns named in `where` that are the source's own; raises `ShapeError` for one that nobody has."""
    scores = pq.read_schema(shards[0]).names
    known = source.store.schema.names if isinstance(source, TableSource) else []
    tree = _parsed(where)
    _expression(tree, where)
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    own = sorted(named - set(scores))
    if missing := [name for name in own if name not in known]:
        others = [name for name in known if name not in scores]
        raise ShapeError(f"no column {missing[0]!r}; the columns are {some([*scores, *others], 40)}")
    return own


def _own_column(source: Any, name: str, first: int, rows: int) -> pa.ChunkedArray:
    batches = list(source.store.read([name], first, first + rows, max(rows, 1)))
    column = pa.Table.from_batches(batches)[name]
    if len(column) != rows:
        raise SourceError(f"{source.where(first)}: column {name!r} has {len(column)} rows where the audit has {rows}")
    return column


def _decoded(table: pa.Table) -> pa.Table:
    """Dictionaries as what they stand for, so that they compare with strings."""
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table[i].cast(field.type.value_type))
    return table


def _parsed(where: str) -> ast.expr:
    try:
        return ast.parse(where.strip(), mode="eval").body
    except (SyntaxError, ValueError) as cause:
        raise ShapeError(f"where={where!r} cannot be read: {cause}; an example: given_label == 'cat'") from cause


def _expression(node: ast.expr, where: str) -> pc.Expression:
    """The condition that a syntax tree means."""
    match node:
        case ast.BoolOp(op=op, values=values):
            join = (lambda a, b: a & b) if isinstance(op, ast.And) else (lambda a, b: a | b)
            return reduce(join, (_expression(value, where) for value in values))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_expression(operand, where)
        case ast.Compare(left=left, ops=ops, comparators=rights):
            sides = [left, *rights]
            parts = [_compared(a, op, b, where) for a, op, b in zip(sides, ops, rights, strict=False)]
            return reduce(lambda a, b: a & b, parts)
        case ast.Name(id=name):
            return pc.field(name)
        case _:
            raise _refused(node, where)


def _compared(left: ast.expr, op: ast.cmpop, right: ast.expr, where: str) -> pc.Expression:
    if isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.Tuple | ast.List | ast.Set):
        inside = _side(left, where).isin([_constant(value, where) for value in right.elts])
        return inside if isinstance(op, ast.In) else ~inside
    if type(op) in COMPARED:
        return COMPARED[type(op)](_side(left, where), _side(right, where))
    raise _refused(right, where)


def _side(node: ast.expr, where: str) -> pc.Expression:
    return pc.field(node.id) if isinstance(node, ast.Name) else pc.scalar(_constant(node, where))


def _constant(node: ast.expr, where: str) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case _:
            raise _refused(node, where)


def _refused(node: ast.expr, where: str) -> ShapeError:
    return ShapeError(
        f"where={where!r}: {ast.unparse(node)!r} is not allowed; compare columns with numbers and strings by "
        "== != < <= > >= in, joined by and, or, not"
    )


def top_rows(shards: Sequence[Path], n: int, *, kind: str | None, by: str | None) -> pa.Table:
    """The n highest rows by a score, one shard in memory at a time; `ShapeError` for an unknown kind or score."""
    if kind is not None and kind not in KINDS:
        raise ShapeError(f"kind={kind!r} is not one of {', '.join(KINDS)}")
    by = by or SCORES.get(kind or "", "cooks_distance")
    schema = pq.read_schema(shards[0])
    if by not in schema.names or not pa.types.is_floating(schema.field(by).type):
        raise ShapeError(f"by={by!r} is not a score; choose one of {', '.join(_scores(schema))}")
    best: pa.Table | None = None
    for shard in shards:
        table = pq.read_table(shard)
        if kind is not None:
            table = table.filter(pc.equal(table["kind"].cast(pa.string()), kind))
        joined = table if best is None else pa.concat_tables([best, table])
        best = joined.sort_by([(by, "descending"), ("row", "ascending")]).slice(0, n)
    assert best is not None
    return best.combine_chunks()


def _scores(schema: pa.Schema) -> list[str]:
    targets = {"given_label", "suggested_label", "predicted_label"}  # floats for a regression
    return [name for name in schema.names if pa.types.is_floating(schema.field(name).type) and name not in targets]
