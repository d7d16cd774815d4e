"""Word lists of the generated texts. Ours, and plain: what they say is of no interest."""

ADJECTIVES = (
    "amber brisk calm dapper eager fancy gentle hollow icy jolly keen lively misty narrow odd plain "
    "quiet rusty silent tidy urban vivid warm young zesty bold copper dusty early frosty").split()

NOUNS = (
    "anchor basket candle desert engine falcon garden harbor island jacket kettle lantern meadow "
    "needle orchard pepper quarry river saddle tunnel umbrella valley window yarrow zebra bridge "
    "castle dragon elbow forest").split()

PEOPLE = (
    "the baker|the old sailor|a young teacher|the gardener|my neighbour|the clerk|a tired driver|"
    "the librarian|the watchmaker|her cousin|the farmer|a travelling singer|the carpenter|"
    "the night guard|a shy student|the postman").split("|")

ACTIONS = (
    "mended a broken chair|counted the empty bottles|wrote a long letter|painted the garden fence|"
    "looked for a lost glove|carried two sacks of flour|cleaned the tall windows|"
    "read the morning paper|listened to the radio|boiled a pot of soup|sorted the old photographs|"
    "closed the heavy gate|waited for the last train|folded the clean sheets|"
    "watered the tomato plants|sharpened a small knife|drew a map of the coast|"
    "bought a basket of plums|repaired the wooden stairs|swept the narrow yard").split("|")

PLACES = (
    "near the harbor|behind the school|in the upper village|beside the mill|at the market|"
    "on the second floor|under the stone bridge|by the lake|in a quiet side street|"
    "at the edge of the forest|in front of the town hall|next to the bakery").split("|")

TIMES = (
    "In the morning|After the rain|Late in the evening|Before lunch|On a windy day|At noon|"
    "During the holidays|Shortly after sunrise|Once the shop had closed|On the way home|"
    "In the first week of spring|When the bells rang").split("|")

REMARKS = (
    "Nobody was surprised by that|It took longer than expected|The weather did not help|"
    "There was little else to do|The dog watched from the door|It was cheaper than last year|"
    "A few people stopped to look|The children found it funny|Everything was done by dusk|"
    "The work had been put off for weeks|Two friends came along to help|"
    "It would have to be done again next month").split("|")

# Messages, two at a time: answers that straddle sentences.
ERRANDS = (
    "Meet at the mill|Wait by the lake|Bring the small lamp|Take the night train|Leave the red coat|"
    "Follow the stone wall|Sell the grey horse|Hide the iron box|Call the old captain|"
    "Open the north gate|Feed the white goat|Burn the second letter").split("|")

# Clauses by script, joined in the order that the language wants; and a sentence that holds a key and
# its number. Keys are plain nouns.
SCRIPTS = {
    "cyrillic": {
        "sentence": "{time} {person} {action} {place}.",
        "needle": "Секретное число для слова «{key}» — {value}.",
        "keys": "сокол якорь мост сад фонарь игла тигр замок корзина туннель".split(),
        "time": "Утром|После дождя|Поздно вечером|Перед обедом|В праздник|По дороге домой".split("|"),
        "person": "старый рыбак|наш сосед|молодой учитель|усталый водитель|садовник|мельник".split("|"),
        "action": "чинит лодку|пишет длинное письмо|красит забор|ищет перчатку|варит суп|"
                  "читает газету|несёт мешок муки|моет окна".split("|"),
        "place": "у реки|за школой|на рынке|под мостом|рядом с пекарней|на краю леса".split("|"),
    },
    "chinese": {
        "sentence": "{time}，{person}{place}{action}。",
        "needle": "“{key}”的秘密数字是{value}。",
        "keys": "猎鹰 船锚 桥梁 花园 灯笼 钢针 老虎 城堡 篮子 隧道".split(),
        "time": "早上|下雨以后|深夜|午饭以前|过节的时候|回家的路上".split("|"),
        "person": "老渔夫|我们的邻居|年轻的老师|疲倦的司机|园丁|磨坊主".split("|"),
        "action": "修理小船|写一封长信|粉刷篱笆|寻找手套|煮汤|看报纸|搬一袋面粉|擦窗户".split("|"),
        "place": "在河边|在学校后面|在市场上|在桥下|在面包店旁边|在森林边上".split("|"),
    },
    "devanagari": {
        "sentence": "{time} {person} {place} {action}।",
        "needle": "«{key}» की गुप्त संख्या {value} है।",
        "keys": "बाज लंगर पुल बगीचा लालटेन सुई बाघ किला टोकरी सुरंग".split(),
        "time": "सुबह|बारिश के बाद|देर रात|दोपहर से पहले|त्योहार पर|घर लौटते समय".split("|"),
        "person": "बूढ़ा मछुआरा|हमारा पड़ोसी|युवा शिक्षक|थका हुआ चालक|माली|चक्कीवाला".split("|"),
        "action": "नाव ठीक करता है|लंबा पत्र लिखता है|बाड़ रंगता है|दस्ताना ढूँढता है|सूप बनाता है|"
                  "अख़बार पढ़ता है|आटे की बोरी उठाता है|खिड़कियाँ साफ़ करता है".split("|"),
        "place": "नदी के पास|स्कूल के पीछे|बाज़ार में|पुल के नीचे|बेकरी के पास|जंगल के किनारे".split("|"),
    },
    "arabic": {
        "sentence": "{time} {person} {action} {place}.",
        "needle": "الرقم السري لكلمة «{key}» هو {value}.",
        "keys": "صقر مرساة جسر حديقة فانوس إبرة نمر قلعة سلة نفق".split(),
        "time": "في الصباح|بعد المطر|في وقت متأخر من الليل|قبل الغداء|في العيد|في طريق العودة".split("|"),
        "person": "الصياد العجوز|جارنا|المعلم الشاب|السائق المتعب|البستاني|الطحان".split("|"),
        "action": "يصلح القارب|يكتب رسالة طويلة|يدهن السياج|يبحث عن القفاز|يطبخ الحساء|"
                  "يقرأ الجريدة|يحمل كيس الطحين|ينظف النوافذ".split("|"),
        "place": "قرب النهر|خلف المدرسة|في السوق|تحت الجسر|بجانب المخبز|عند طرف الغابة".split("|"),
    },
}
