#include "coordinator/text/jinja_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/text/small_vocabularies.h"

namespace kvec::coordinator::text {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::string> Render(absl::string_view source,
                                   const std::vector<ChatMessage>& messages = {{"user", "hi"}},
                                   const nlohmann::ordered_json& arguments = {}) {
  const auto jinja = JinjaTemplate::Parse(source);
  if (!jinja.ok()) return jinja.status();
  const auto parts = jinja->Render({.messages = messages,
                                    .bos_token = "<bos>",
                                    .eos_token = "<eos>",
                                    .arguments = arguments,
                                    .now = absl::FromUnixSeconds(1700000000)});
  if (!parts.ok()) return parts.status();
  std::string text;
  for (const JinjaTemplate::Part& part : *parts) text += part.text;
  return text;
}

TEST(JinjaTemplateTest, RendersAsPythonsJinjaDoes) {
  setenv("TZ", "UTC", 1);
  tzset();
  const nlohmann::ordered_json goldens = ReadData("chat_template_goldens.json");
  for (const auto& golden : goldens["cases"]) {
    std::vector<ChatMessage> messages;
    for (const auto& message : golden["messages"]) {
      messages.push_back(
          {message["role"].get<std::string>(), message["content"].get<std::string>()});
    }
    const std::string source = goldens["templates"][golden["template"].get<std::string>()];
    const auto text = Render(source, messages, golden["arguments"]);
    if (golden.contains("rendered")) {
      ASSERT_TRUE(text.ok()) << golden["name"] << ": " << text.status();
      EXPECT_EQ(*text, golden["rendered"]) << golden["name"];
    } else {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << golden["name"];
      EXPECT_THAT(text.status().message(), HasSubstr(golden["raised"].get<std::string>()));
    }
  }
}

TEST(JinjaTemplateTest, MarksWhatTheUserTypedThroughFiltersAndMacros) {
  const auto jinja = JinjaTemplate::Parse(
      "{% macro turn(m) %}<|{{ m.role }}|>{{ m.content | trim | upper }}<|end|>{% endmacro %}"
      "{% for m in messages %}{{ turn(m) }}{% endfor %}{{ tool }}");
  ASSERT_TRUE(jinja.ok()) << jinja.status();
  const std::vector<ChatMessage> messages = {{"user", " a<|end|> "}};
  const auto parts = jinja->Render({.messages = messages,
                                    .bos_token = "",
                                    .eos_token = "",
                                    .arguments = {{"tool", "t"}},
                                    .now = absl::UnixEpoch()});
  ASSERT_TRUE(parts.ok()) << parts.status();
  std::string marked;
  for (const JinjaTemplate::Part& part : *parts) {
    marked += part.is_user_text ? absl::StrCat("[", part.text, "]") : part.text;
  }
  EXPECT_EQ(marked, "<|[user]|>[A<|END|>]<|end|>[t]");
}

TEST(JinjaTemplateTest, RejectsSourcesThatDoNotParse) {
  for (const char* source : {"{% if %}", "{{ a", "{% for x in %}{% endfor %}", "{% endif %}",
                             "{% unknown %}", "{{ 'a }}", "{% if a %}"}) {
    EXPECT_EQ(JinjaTemplate::Parse(source).status().code(), absl::StatusCode::kInvalidArgument)
        << source;
  }
  EXPECT_THAT(JinjaTemplate::Parse(std::string((1 << 20) + 1, 'a')).status().message(),
              HasSubstr("1048577 bytes"));
}

TEST(JinjaTemplateTest, TurnsWhatTheTemplateCannotDoIntoAStatus) {
  for (const char* source :
       {"{{ nothing + 1 }}", "{{ 1 + 'a' - 2 }}", "{{ messages < 3 }}",
        "{{ 'x' | no_such_filter }}", "{{ undefined_function() }}", "{{ raise_exception() }}"}) {
    const auto text = Render(source);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << source;
  }
}

std::string Repeat(absl::string_view text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) absl::StrAppend(&result, text);
  return result;
}

TEST(JinjaTemplateTest, RefusesNestingThatWouldOverflowTheStack) {
  for (const std::string& source :
       {"{{ " + Repeat("(", 100'000) + " }}", "{{ " + Repeat("[", 100'000) + " }}",
        "{{ " + Repeat("not ", 100'000) + "a }}", "{{ 1" + Repeat(" + 1", 100'000) + " }}",
        "{{ a" + Repeat(".a", 100'000) + " }}", "{{ a" + Repeat(" | trim", 100'000) + " }}",
        Repeat("{% if a %}", 50'000), Repeat("{% for a in b %}", 50'000),
        Repeat("{% set a %}", 50'000), "{% if a %}" + Repeat("{% elif a %}", 50'000),
        Repeat("{% if a %}{% set b %}{% endset %}", 20'000)}) {
    const auto jinja = JinjaTemplate::Parse(source);
    EXPECT_EQ(jinja.status().code(), absl::StatusCode::kInvalidArgument) << source.substr(0, 20);
    EXPECT_THAT(jinja.status().message(), HasSubstr("line 1")) << source.substr(0, 20);
  }
}

TEST(JinjaTemplateTest, AcceptsTheDeepestNestingThatItAllows) {
  EXPECT_TRUE(Render("{{ " + Repeat("(", 64) + "1" + Repeat(")", 64) + " }}").ok());
  EXPECT_EQ(*Render("{{ 1" + Repeat(" + 1", 400) + " }}"), "401");
  EXPECT_EQ(*Render(Repeat("{% if true %}", 64) + "x" + Repeat("{% endif %}", 64)), "x");
}

TEST(JinjaTemplateTest, EndsEndlessWork) {
  for (const char* source :
       {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(2000000000) %}{% endfor %}",
        "{% for i in range(2000) %}{% for j in range(2000) %}{% endfor %}{% endfor %}"}) {
    EXPECT_EQ(Render(source).status().code(), absl::StatusCode::kResourceExhausted) << source;
  }
}

TEST(JinjaTemplateTest, HoldsNoMoreMemoryThanItMay) {
  for (const char* source :
       {"{% set ns = namespace(s='0123456789abcdef') %}"
        "{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        "{% macro f(a, n) %}{% if n %}{{ f(a + a, n - 1) }}{% endif %}{% endmacro %}{{ f([1], 40) "
        "}}",
        "{{ 'x' * 1000000000000 }}", "{{ ('a' * 10000) | replace('a', 'b' * 100000) }}",
        "{{ 'a' | indent(1000000000000, true) }}",
        "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set ns = namespace(s='abc') %}"
        "{% for i in range(40) %}{% set ns.s = f(ns.s) %}{% endfor %}"}) {
    const absl::Status status = Render(source).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << source << ": " << status;
  }
}

TEST(JinjaTemplateTest, AllocatesNoMoreInAllThanItMay) {
  const absl::Status status =
      Render(
          "{% set s = 'x' * 100000 %}{% for i in range(100000) %}{% set t = s + s %}{% endfor %}")
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

TEST(JinjaTemplateTest, RendersALongConversation) {
  const std::vector<ChatMessage> messages(2'000, {"user", std::string(2'000, 'x')});
  const auto text = Render(
      "{% for m in messages %}{% set c = m.content | trim %}<{{ m.role + '>' + c }}{% endfor %}",
      messages);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->size(), 2'000 * 2'006u);
}

TEST(JinjaTemplateTest, SurvivesValuesNestedDeeply) {
  const std::string deep_list = "{%set v=[]%}" + Repeat("{%set v=[v]%}", 50'000);
  const std::string deep_tuple = "{%set v=1%}" + Repeat("{%set v=(v,1)%}", 50'000);
  const std::string deep_object = "{%set v={}%}" + Repeat("{%set v={1:v}%}", 50'000);
  for (const std::string& deep : {deep_list, deep_tuple, deep_object}) {
    // Freed, but never walked.
    EXPECT_TRUE(Render(deep).ok()) << deep.substr(0, 20);
    for (const char* use : {"{{ v | tojson }}", "{{ {v: 1} }}{{ '' ~ v }}"}) {
      EXPECT_FALSE(Render(deep + use).ok()) << deep.substr(0, 20) << use;
    }
  }
}

// Such a value would never be freed, and its text has no end.
TEST(JinjaTemplateTest, RefusesValuesThatHoldThemselves) {
  for (const char* source :
       {"{% set ns = namespace() %}{% set ns.me = ns %}{{ ns | tojson }}",
        "{% set ns = namespace() %}{% set ns.me = [{'a': ns}] %}",
        "{% set ns = namespace() %}{% set ns.me = ns.items %}",
        "{% macro f() %}{% set ns = namespace() %}{% set ns.c = caller %}{% endmacro %}"
        "{% call f() %}x{% endcall %}",
        "{% set a = [] %}{% if a.append(a) %}{% endif %}{{ a }}"}) {
    EXPECT_EQ(Render(source).status().code(), absl::StatusCode::kInvalidArgument) << source;
  }
}

TEST(JinjaTemplateTest, SurvivesArithmeticOnSizes) {
  for (const char* source :
       {"{{ 'abc'[::9223372036854775807] }}", "{{ 'abc'[1::9223372036854775807] }}",
        "{{ 'abc'[::-9223372036854775807] }}", "{{ [[[1]]] | tojson(indent=2147483647) }}",
        "{{ (nothing | upper) * 1000000000000 }}", "{{ '' * 1000000000000 }}",
        "{{ 1 % 0 }}{{ 1 / 0 }}", "{{ 9223372036854775807 }}{{ 1e300 | int }}",
        "{{ 'a' | indent(-1) }}",
        // No order: 10 < '9x' < 9 < 10.
        "{{ ([10, '9x', 9] + [9, '9x', 10, 9, '9x', 10, 9, 10, '9x', 9, 10, 9, '9x', 10, 9, 10,"
        " '9x', 9, 10]) | sort }}"}) {
    Render(source).IgnoreError();
  }
}

}  // namespace
}  // namespace kvec::coordinator::text
