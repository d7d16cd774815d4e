#include "coordinator/text/tokenizer_json_model.h"

#include <array>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"

namespace kvec::coordinator::text {
namespace {

using nlohmann::json;

// Follows the parser through the document and keeps what lies in "model".
class ModelReader : public nlohmann::json_sax<json> {
 public:
  bool null() override { return Field(nullptr); }
  bool boolean(bool value) override { return Field(value); }
  bool number_float(number_float_t value, const string_t&) override { return Field(value); }
  bool number_integer(number_integer_t value) override {
    return InVocabulary() ? Fail(absl::StrCat("vocab: an id is ", value)) : Field(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    return InVocabulary() ? TokenId(value) : Field(value);
  }
  bool string(string_t& value) override { return InMerges() ? MergePart(value) : Field(value); }
  bool binary(binary_t&) override { return Fail("binary data"); }

  bool key(string_t& key) override {
    if (depth_ < path_.size()) path_[depth_] = key;
    if (InVocabulary()) token_ = std::move(key);
    return true;
  }
  bool start_object(std::size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override { return Open(); }
  bool end_array() override {
    if (InMerges() && depth_ == kPairDepth && pair_size_ != 2) {
      return FailMerge("is not two strings");
    }
    return Close();
  }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& error) override {
    return Fail(error.what());
  }

  TokenizerJsonModel TakeModel() { return std::move(model_); }
  const std::string& error() const { return error_; }

 private:
  // Depth of the values: 1 in the document, 2 in the model, 3 in vocab and merges, 4 in a merge
  // that is an array.
  static constexpr size_t kModelDepth = 2;
  static constexpr size_t kPairDepth = 4;

  bool InModel() const { return depth_ >= kModelDepth && path_[1] == "model"; }
  bool InVocabulary() const { return depth_ == 3 && InModel() && path_[2] == "vocab"; }
  bool InMerges() const { return depth_ >= 3 && InModel() && path_[2] == "merges"; }

  bool Open() {
    ++depth_;
    pair_size_ = 0;
    return !InMerges() || depth_ <= kPairDepth || FailMerge("is nested too deeply");
  }
  bool Close() {
    --depth_;
    return true;
  }

  bool Fail(std::string error) {
    error_ = std::move(error);
    return false;
  }
  bool FailMerge(absl::string_view what) {
    return Fail(absl::StrCat("merges[", model_.merges.size(), "] ", what));
  }

  bool Field(json value) {
    if (InVocabulary()) return Fail(absl::StrCat("vocab: the id of ", Quoted(token_), " is no id"));
    if (InMerges()) return FailMerge("is not two strings");
    if (depth_ == kModelDepth && InModel()) model_.fields[path_[2]] = std::move(value);
    return true;
  }

  bool TokenId(uint64_t id) {
    if (id > std::numeric_limits<int32_t>::max()) {
      return Fail(absl::StrCat("vocab: the id of ", Quoted(token_), " is ", id));
    }
    model_.vocabulary.emplace_back(std::move(token_), static_cast<int32_t>(id));
    return true;
  }

  // A whole merge "left right", or one side of ["left", "right"].
  bool MergePart(std::string& part) {
    if (depth_ == kPairDepth) {
      if (pair_size_ == 2) return FailMerge("is more than two strings");
      pair_[pair_size_++] = std::move(part);
      if (pair_size_ == 2) model_.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
      return true;
    }
    const size_t space = part.find(' ');
    if (space == std::string::npos) return FailMerge("is not two symbols with a space between");
    model_.merges.emplace_back(part.substr(0, space), part.substr(space + 1));
    return true;
  }

  TokenizerJsonModel model_;
  size_t depth_ = 0;
  std::array<std::string, 3> path_;  // path_[d]: the last key at depth d
  std::string token_;
  std::array<std::string, 2> pair_;
  size_t pair_size_ = 0;
  std::string error_;
};

}  // namespace

absl::StatusOr<TokenizerJsonModel> ReadTokenizerJsonModel(absl::string_view text) {
  ModelReader reader;
  if (!json::sax_parse(text.begin(), text.end(), &reader)) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: model.", reader.error()));
  }
  return reader.TakeModel();
}

}  // namespace kvec::coordinator::text
