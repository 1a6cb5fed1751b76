"""What an expression turns out to be: the values that the resolver returns.

A ``Value`` is a tuple that begins with its kind:

- ``("module", m)``, ``("class", m, c)``, ``("instance", m, c)``, ``("function", m, f)``
- ``("method", m, f, receiver)``: the receiver is a value itself
- ``("rows", m, c, manager)``: a manager or queryset of a model
- ``("many", value)``: a list of them; ``("pair", value)``: what ``get_or_create()`` returns
- ``("on", value, name)``: an attribute of a function or of rows, as ``task.delay``
- ``("outside", "django.db.transaction.atomic")``: a name that the project does not define; a
  ``()`` in it stands for a call

``m``, ``f`` and ``c`` are the numbers of a module, function and class.
"""

from typing import Any

Value = tuple[Any, ...]
FunctionId = tuple[int, int]
ClassId = tuple[int, int]
