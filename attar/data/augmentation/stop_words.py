"""English function words: replacing one breaks the sentence or turns its meaning round, and adds nothing to learn."""

_LIST = """
a an the this that these those some any each every either neither no none both all few many much more most other
another such own same
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
herself it its itself they them their theirs themselves one who whom whose which what
am is are was were be been being have has had having do does did doing will would shall should can could may might
must ought need dare
not nor never and or but if because as until while although though unless since whether than then so too very just
only also even still yet again once ever
of at by for with about against between into through during before after above below to from up down in out on off
over under within without upon onto toward towards among along across behind beside besides beyond near per via
here there where when why how now
"""
STOP_WORDS = frozenset(_LIST.split())
