#include "coordinator/server/message_parsing.h"

#include <grpcpp/support/slice.h>

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::server {
namespace {

using ::testing::HasSubstr;

grpc::ByteBuffer Buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// Serialises `request` with every '?' made an invalid byte: protobuf itself would not write it.
std::string Spoiled(const v1::GenerateRequest& request) {
  std::string bytes = request.SerializeAsString();
  for (char& c : bytes) {
    if (c == '?') c = '\xC0';
  }
  return bytes;
}

std::string MessageFor(const std::string& bytes) {
  v1::GenerateRequest request;
  const absl::Status status = ParseMessage(Buffer(bytes), &request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(MessageParsingTest, ReadsBackWhatItWrote) {
  v1::GenerateRequest request;
  request.set_text("a€😀");
  v1::GenerateRequest parsed;
  ASSERT_TRUE(ParseMessage(SerializeMessage(request), &parsed).ok());
  EXPECT_EQ(parsed.text(), "a€😀");
}

TEST(MessageParsingTest, ReadsAMessageInSeveralSlices) {
  v1::GenerateRequest request;
  request.set_text(std::string(1000, 'a'));
  const std::string bytes = request.SerializeAsString();
  std::vector<grpc::Slice> slices;
  for (size_t i = 0; i < bytes.size(); i += 7) slices.emplace_back(bytes.substr(i, 7));
  v1::GenerateRequest parsed;
  ASSERT_TRUE(ParseMessage(grpc::ByteBuffer(slices.data(), slices.size()), &parsed).ok());
  EXPECT_EQ(parsed.text(), request.text());
}

TEST(MessageParsingTest, NamesATopLevelFieldThatIsNotUtf8) {
  v1::GenerateRequest request;
  request.set_text("ab?");
  EXPECT_THAT(MessageFor(Spoiled(request)), HasSubstr("text: byte 2 is not UTF-8"));
}

TEST(MessageParsingTest, NamesANestedFieldThatIsNotUtf8) {
  v1::GenerateRequest request;
  request.set_request_id("fine");
  request.mutable_sampling()->set_seed(77);
  request.mutable_chat()->add_messages()->set_content("fine too");
  request.mutable_chat()->add_messages()->set_content("???");
  EXPECT_THAT(MessageFor(Spoiled(request)), HasSubstr("chat.messages.content: byte 0"));
}

TEST(MessageParsingTest, EveryTruncationOfAMessageIsAStatus) {
  v1::GenerateRequest request;
  request.mutable_chat()->add_messages()->set_content("some content ?");
  request.mutable_stopping()->add_stop("stop");
  request.set_priority(3);
  const std::string bytes = Spoiled(request);
  for (size_t size = 0; size < bytes.size(); ++size) {
    v1::GenerateRequest parsed;
    const absl::Status status = ParseMessage(Buffer(bytes.substr(0, size)), &parsed);
    EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << size << ": " << status;
  }
}

TEST(MessageParsingTest, EveryFlippedByteIsAStatusOrAMessage) {
  v1::GenerateRequest request;
  request.mutable_chat()->add_messages()->set_content("some content ?");
  request.mutable_token_ids()->add_ids(1'000'000);
  request.mutable_cache()->set_budget_share(0.5);
  const std::string bytes = Spoiled(request);
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = bytes;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      v1::GenerateRequest parsed;
      const absl::Status status = ParseMessage(Buffer(flipped), &parsed);
      EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << i << ": " << status;
    }
  }
}

}  // namespace
}  // namespace kvec::coordinator::server
