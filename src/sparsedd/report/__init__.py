"""Report: what people read of the sweeps in a folder: the page, its pictures and its sentences."""

from sparsedd.report._report import combine as combine
from sparsedd.report._report import read_experiments as read_experiments
from sparsedd.report._report import write_report as write_report
from sparsedd.report._summary import describe_last_level as describe_last_level
