"""What every GraphStore must do, as tests.

An adapter's test file supplies a `store` fixture that gives an empty graph, and subclasses:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            with MyStore(tmp_path / "graph") as store:
                yield store

Nothing here asks for the class of a store: lawful differences are read from `store.capabilities`.
"""

from __future__ import annotations

from kgkit.testing.contract_align import AlignContract
from kgkit.testing.contract_answers import AnswerContract
from kgkit.testing.contract_read import ReadContract
from kgkit.testing.contract_write import WriteContract


class StoreContract(WriteContract, AlignContract, ReadContract, AnswerContract):
    """All of the contract. A subclass gives the fixture `store`."""
