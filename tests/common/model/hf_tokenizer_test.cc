#include "common/model/hf_tokenizer.h"

#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/temp_folder.h"
#include "tests/common/model/tiny_hf.h"

namespace kvec {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class HfTokenizerTest : public testing::Test {
 protected:
  absl::StatusOr<TokenizerData> Read() const {
    model_.Write(folder_);
    return ReadHfTokenizer(folder_.path(), model_.config, 12);
  }
  void SetPostProcessor(json single) {
    model_.tokenizer["post_processor"] = {
        {"type", "Sequence"},
        {"processors",
         {{{"type", "ByteLevel"}}, {{"type", "TemplateProcessing"}, {"single", single}}}}};
  }

  TempFolder folder_;
  TinyHf model_{"llama"};
};

TEST_F(HfTokenizerTest, KeepsTheTextOfTokenizerJson) {
  const absl::StatusOr<TokenizerData> data = Read();
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->tokenizer_json, model_.tokenizer.dump());
  EXPECT_TRUE(data->tokens.empty());
  EXPECT_EQ(data->bos_id, 1);
  EXPECT_FALSE(data->add_bos);
  EXPECT_EQ(data->chat_template, "{{ x }}");
}

TEST_F(HfTokenizerTest, EndsAreThoseOfAllFiles) {
  EXPECT_THAT(Read()->eos_ids, ElementsAre(2, 3));  // </s>, and <|im_end|> by its name
  folder_.Write("generation_config.json", R"({"eos_token_id": [5, 7]})");
  EXPECT_THAT(Read()->eos_ids, ElementsAre(2, 3, 5, 7));
  folder_.Write("generation_config.json", R"({"eos_token_id": 6})");
  EXPECT_THAT(Read()->eos_ids, ElementsAre(2, 3, 6));
}

TEST_F(HfTokenizerTest, TheTemplateFileComesFirstThenTheDefaultOfSeveral) {
  model_.tokenizer_config["chat_template"] = {{{"name", "tool_use"}, {"template", "T"}},
                                              {{"name", "default"}, {"template", "D"}}};
  EXPECT_EQ(Read()->chat_template, "D");
  folder_.Write("chat_template.jinja", "J");
  EXPECT_EQ(Read()->chat_template, "J");
}

TEST_F(HfTokenizerTest, BosIsAddedWhenThePostProcessorPutsItFirst) {
  const json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  SetPostProcessor({bos, text});
  EXPECT_TRUE(Read()->add_bos);
  SetPostProcessor({text, bos});
  EXPECT_FALSE(Read()->add_bos);
}

TEST_F(HfTokenizerTest, WhatTokenizerConfigSaysOfBosCounts) {
  model_.tokenizer_config["add_bos_token"] = true;
  EXPECT_TRUE(Read()->add_bos);
  SetPostProcessor({{{"SpecialToken", {{"id", "<s>"}}}}});
  model_.tokenizer_config["add_bos_token"] = false;
  EXPECT_FALSE(Read()->add_bos);
}

TEST_F(HfTokenizerTest, BosMayBeAnObjectOrComeFromConfigJson) {
  model_.tokenizer_config["bos_token"] = {{"content", "</s>"}, {"lstrip", false}};
  EXPECT_EQ(Read()->bos_id, 2);
  model_.tokenizer_config["bos_token"] = nullptr;
  EXPECT_EQ(Read()->bos_id, 1);
  model_.config["bos_token_id"] = nullptr;
  EXPECT_EQ(Read()->bos_id, std::nullopt);
}

TEST_F(HfTokenizerTest, OnlyTokenizerJsonIsNeeded) {
  model_.Write(folder_);
  folder_.Remove("tokenizer_config.json");
  const absl::StatusOr<TokenizerData> data = ReadHfTokenizer(folder_.path(), model_.config, 12);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->chat_template, "");
  folder_.Remove("tokenizer.json");
  const absl::Status missing = ReadHfTokenizer(folder_.path(), model_.config, 12).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("tokenizer.json"));
}

TEST_F(HfTokenizerTest, RejectsIdsOutsideTheVocabulary) {
  for (const char* id : {"12", "-1", "18446744073709551615", "1.5", "\"2\"", "[[1]]"}) {
    folder_.Write("generation_config.json", std::string("{\"eos_token_id\": ") + id + "}");
    const absl::Status status = Read().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << id;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("generation_config.json: eos_token_id: is"));
  }
}

TEST_F(HfTokenizerTest, RejectsFilesOfAnotherForm) {
  const json spoilt[] = {
      json::array(),
      {{"added_tokens", 5}},
      {{"added_tokens", {5}}},
      {{"added_tokens", {{{"id", 1}}}}},
      {{"added_tokens", {{{"id", -1}, {"content", "x"}}}}},
  };
  for (const json& tokenizer : spoilt) {
    model_.tokenizer = tokenizer;
    EXPECT_EQ(Read().status().code(), absl::StatusCode::kInvalidArgument) << tokenizer;
  }
}

TEST_F(HfTokenizerTest, APostProcessorOfAnotherFormAddsNoBos) {
  for (const json& processor :
       {json(5), json::array(), json({{"type", 5}}),
        json({{"type", "TemplateProcessing"}, {"single", json::array()}}),
        json({{"type", "TemplateProcessing"}, {"single", {5}}}),
        json({{"type", "TemplateProcessing"}, {"single", {{{"SpecialToken", 5}}}}}),
        json({{"type", "Sequence"}, {"processors", 5}})}) {
    model_.tokenizer["post_processor"] = processor;
    const absl::StatusOr<TokenizerData> data = Read();
    ASSERT_TRUE(data.ok()) << data.status();
    EXPECT_FALSE(data->add_bos) << processor;
  }
}

}  // namespace
}  // namespace kvec
