from .document import Report as Report
from .training import report_training as report_training
