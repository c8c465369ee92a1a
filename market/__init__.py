"""What is offered, paid and believed: five wings that know no peer and no model file.

`economics`, `money` and `trust` compute and do no I/O; `chain` is the only wing with web3, `ledger` the only one with
SQLAlchemy. An offer is in `advert`, the errors of all wings are in `errors`.
"""
