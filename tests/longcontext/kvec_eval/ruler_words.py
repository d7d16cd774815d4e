"""Plain words for RULER's keys and lists. None is a part of another: answers are looked for as
strings."""

ADJECTIVES = (
    "amber ample ancient arctic awake bitter bland blunt bold brave brief bright brisk broad "
    "bronze calm careful cheap cheerful chilly civil clean clever cloudy clumsy coarse common "
    "complex copper cosmic cozy crisp crooked cruel curious damp daring deep distant dizzy dull "
    "dusty eager early elastic elegant empty exact fair famous fancy fast fierce firm flat foggy "
    "formal fragile frank fresh frosty gentle giant glad gloomy golden graceful grand grim gross "
    "handy happy harsh hasty heavy hollow honest huge humble hungry icy idle jolly keen kind late "
    "lazy lively local lonely loyal lucky marble mellow mighty mild modern modest muddy narrow "
    "neat noble noisy novel obvious odd orderly pale patient polite proud quaint quick quiet "
    "rapid rare remote rigid ripe rough rural rusty sandy shallow sharp shiny shy silent silver "
    "sincere sleepy slow smooth snowy sober solid sour spare steady steep sturdy subtle sunny "
    "supple swift tame tender tense tepid thick thirsty tidy tough urban useful vacant vague vast "
    "velvet vivid warm weary wide wild windy wise witty wooden young zesty").split()

NOUNS = (
    "acorn actor alarm album almond anchor ankle apron attic autumn badge bakery balcony banjo "
    "barrel basket beacon beetle bishop blanket blossom bottle bridge broom bucket bundle butter "
    "cabin cactus camel candle canoe canvas carpet castle cattle cedar cellar chapel cherry "
    "chimney cider circus clover cobbler collar comet compass coral cottage cotton cradle crater "
    "crayon cricket crystal curtain cushion daisy desert diamond dolphin donkey dragon drawer "
    "eagle elbow engine envelope estate fabric falcon feather fiddle finger fjord flannel forest "
    "fossil fountain galaxy garden garlic ginger glacier goblet granite gravel guitar hammer "
    "harbor harvest hazel helmet hermit hockey honey hunter igloo insect island ivory jacket "
    "jasmine jewel jungle kettle kitchen kitten ladder lagoon lantern lemon lettuce library "
    "lizard locket lumber magnet mango maple market meadow melon mirror mitten monkey morning "
    "mosaic museum mustard napkin needle nickel notebook nutmeg oasis ocean olive onion orbit "
    "orchard oven owl oyster paddle palace panther parade parrot peacock pebble pencil pepper "
    "piano pickle pigeon pillow pirate pistol planet plaza pocket poem pony potato prairie pulley "
    "pumpkin puzzle pyramid quarry quilt rabbit radio raven ribbon river robin rocket saddle "
    "saffron salmon sandal satchel scarf shadow shovel signal singer socket sparrow spider "
    "spindle spring squirrel stable statue sugar summit swallow teapot temple thimble thunder "
    "ticket tiger timber tomato tortoise trumpet tulip tunnel turnip turtle umbrella valley "
    "vessel village violin volcano waffle wagon walnut walrus whistle willow window winter wizard "
    "yarrow yogurt zebra zipper").split()

VERBS = (
    "accept admire adopt advise agree announce appear argue arrive assist attend avoid become "
    "begin believe borrow bounce breathe build bury capture carve celebrate change choose climb "
    "collect confess connect consider convince cough deliver deny depart describe destroy detect "
    "disturb divide dream earn educate enjoy escape explain explore fetch follow forgive gather "
    "greet guess happen imagine improve include inform inspect invent invite juggle knit launch "
    "lend listen manage measure mention notice obey observe offer perform persuade predict "
    "pretend promise protect provide pursue receive refuse remember remove repair repeat replace "
    "rescue return reveal scatter search select settle shiver sketch solve stretch suggest "
    "surprise survive suspect tremble twist unite vanish wander whisper wonder worry yawn").split()
