from .pulse import Pulse as Pulse
from .scenarios import SCENARIOS as SCENARIOS
from .scenarios import Scenario as Scenario
from .scene import Scene as Scene
from .source import GENERATOR_VERSION as GENERATOR_VERSION
from .source import SyntheticPulse as SyntheticPulse
from .film import write_film as write_film
from .tree import synthesize as synthesize
