"""What the word world's text is about: its themes, and the words without pictures that belong to them.

Survey: 3.1, 3.3.  The themes and their words are our own.

Several themes favour a colour (rescue red and orange, wedding white, mourning black, forest green), as
cultures do. A text that never names the colour of a thing still says something about it by the company that
the thing keeps; how much, is for a learner to find out.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """A theme: how often it is written about, how much of it is said of things that can be seen, and the
    words that it brings along, the commonest first."""

    weight: int
    concrete: int                       # percent of its sentences that are about things
    places: tuple[str, ...]
    abstract: tuple[str, ...]           # nouns
    feelings: tuple[str, ...]           # adjectives
    thoughts: tuple[str, ...]           # verbs in the past tense


def _(weight: int, concrete: int, places: str, abstract: str, feelings: str, thoughts: str) -> Theme:
    return Theme(weight, concrete, *(tuple(words.split()) for words in (places, abstract, feelings,
                                                                        thoughts)))


THEMES: dict[str, Theme] = {
    "home": _(14, 70, "kitchen garden hall attic cellar porch", "love rest memory comfort patience habit",
              "calm cosy tired content", "remembered rested shared kept"),
    "farm": _(11, 75, "meadow orchard fence stable village", "growth patience work harvest season hope",
              "busy hopeful content humble", "waited laboured hoped gathered"),
    "traffic": _(11, 70, "street road bridge crossing station", "speed hurry noise danger delay order",
                 "impatient busy nervous late", "hurried complained waited worried"),
    "forest": _(10, 75, "forest clearing path stream hill", "silence secret freedom peace wonder growth",
                "free wild calm curious", "wandered wondered listened roamed"),
    "sea": _(10, 75, "harbour beach pier island shore", "freedom adventure luck stillness distance hope",
             "free brave lonely calm", "travelled dreamed roamed hoped"),
    "market": _(9, 45, "market shop bank warehouse stall", "price trade profit debt value choice bargain",
                "greedy rich poor shrewd", "paid owed traded saved bargained"),
    "play": _(9, 65, "park playground stage field arena", "joy fun luck friendship victory noise game",
              "happy merry proud cheerful", "laughed won cheered lost joked"),
    "feast": _(8, 65, "tavern kitchen terrace cellar village", "hunger pleasure taste joy plenty friendship",
               "hungry merry grateful generous", "celebrated tasted shared laughed"),
    "winter": _(8, 70, "mountain valley lodge slope hill", "sorrow silence patience hardship courage "
                                                         "endurance",
                "lonely patient weary brave", "endured waited suffered persisted"),
    "night": _(8, 60, "alley rooftop attic tunnel path", "sleep fear dream mystery secret silence peace",
               "afraid sleepy uneasy curious", "dreamed feared slept wondered"),
    "school": _(8, 25, "library classroom museum laboratory hall",
                "knowledge truth idea reason question answer theory proof meaning",
                "clever curious serious careful", "learned thought explained understood doubted proved"),
    "court": _(7, 25, "courtroom prison office palace courtyard",
               "justice law power guilt right duty promise honour peace",
               "fair guilty stern proud", "judged promised accused obeyed ruled denied"),
    "rescue": _(6, 60, "station tunnel bridge slope hospital", "danger courage alarm help luck duty pain",
                "brave alert afraid grateful", "helped saved feared survived"),
    "wedding": _(6, 55, "church garden terrace hall palace", "love promise beauty joy virtue honour future",
                 "happy tender graceful grateful", "promised married celebrated smiled loved"),
    "mourning": _(6, 45, "graveyard church valley courtyard alley",
                  "grief sorrow memory death regret loss fate",
                  "sad lonely solemn weary", "mourned wept regretted remembered lost"),
}
NUMBERS = ("two", "three", "five", "ten", "four", "six", "seven", "eight", "nine", "twelve")
TIMES = ("today", "again", "often", "soon", "yesterday", "tonight", "early", "always", "later", "slowly",
         "rarely", "tomorrow")
WHO = ("they", "we", "you", "people", "children", "friends")
SOMEONE = ("he", "she", "everyone", "nobody", "someone")
RELATIONS = ("near", "behind", "beside", "under", "by", "before", "beyond", "opposite")
LINKS = ("in", "at", "near", "by", "behind", "around", "outside")
COLOURS_SAID = ("white", "black", "red", "blue", "green", "yellow", "brown", "grey", "orange", "pink",
                "purple")
