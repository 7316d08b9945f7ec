from .charts.matplotlib import draw as draw
from .pictures.kinds import KINDS as KINDS
from .report_page import document as document
from .report_page import page as page
