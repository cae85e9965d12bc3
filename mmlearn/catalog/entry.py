"""What the catalogue says of a system."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Configuration:
    """A named size of a system. ``published`` counts trainable parameters, as ``source`` states them."""

    name: str
    build: str                      # "package.module:Class.method", which returns the configuration
    published: int | None = None
    source: str | None = None


@dataclass(frozen=True)
class System:
    """A system of the book. ``model`` is "package.module:Class", or None where nothing is trained."""

    name: str
    section: str                    # of the survey
    paper: str                      # "Authors (year), Title, where; key in references.bib"
    module: str
    model: str | None = None
    configurations: tuple[Configuration, ...] = ()
    oracle: str | None = None       # what an independent implementation it is compared with
    weights: str | None = None      # public weights that load into it
    equations: tuple[str, ...] = ()
    command: str = ""               # its name on the command line and in the files of saved models
    trainer: str = ""  # the module with ``add(parser, system)`` that trains it: ``mmlearn train COMMAND``
