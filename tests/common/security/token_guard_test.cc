#include "common/security/token_guard.h"

#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/security/secret.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/temp_folder.h"

namespace kvec::security {
namespace {

using testing::HasSubstr;
using testing::Not;

// A guard of a file of hashes, and the time as it sees it.
class TokenGuardTest : public testing::Test {
 protected:
  void Write(const std::string& text) { path_ = folder_.Write("tokens", text); }

  // As an editor or Kubernetes does it.
  void Replace(const std::string& text) {
    std::filesystem::rename(folder_.Write("tokens.new", text), path_);
  }

  void Open() {
    auto guard = TokenGuard::OfHashFile(path_, [this] { return now_; });
    ASSERT_TRUE(guard.ok()) << guard.status();
    guard_ = *std::move(guard);
  }

  bool Takes(const std::string& token) { return guard_->Check("Bearer " + token).ok(); }
  void Wait(absl::Duration duration) { now_ += duration; }

  const TempFolder folder_;
  std::string path_;
  absl::Time now_ = absl::Now();
  std::shared_ptr<TokenGuard> guard_;
};

TEST_F(TokenGuardTest, TakesABearerTokenItKnows) {
  Write(Sha256Hex("one"));
  Open();
  for (const char* header : {"Bearer one", "bearer one", "BEARER  one "}) {
    EXPECT_TRUE(guard_->Check(header).ok()) << header;
  }
}

TEST_F(TokenGuardTest, SaysWhatIsWrongWithoutRepeatingTheToken) {
  Write(Sha256Hex("one"));
  Open();
  const std::pair<std::optional<absl::string_view>, const char*> cases[] = {
      {std::nullopt, "wants a token"},
      {"", "not of the form"},
      {"one", "not of the form"},
      {"Basic b25lOm9uZQ==", "not of the form"},
      {"Bearer", "not of the form"},
      {"Bearer ", "not one that this server takes"},
      {"Bearer hush", "not one that this server takes"},
      {"Bearer one one", "not one that this server takes"},
      {"Bearer one,hush", "not one that this server takes"},
  };
  for (const auto& [header, message] : cases) {
    const absl::Status status = guard_->Check(header);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << header.value_or("none");
    EXPECT_THAT(status.message(), HasSubstr(message));
    for (const char* secret : {"hush", "one,", "b25l", "tokens"}) {
      EXPECT_THAT(status.message(), Not(HasSubstr(secret)));
    }
  }
}

TEST_F(TokenGuardTest, FollowsItsFileWithinASecond) {
  Write(Sha256Hex("one"));
  Open();
  Replace(absl::StrCat(Sha256Hex("two"), "\n"));
  Wait(absl::Seconds(1));
  EXPECT_TRUE(Takes("two"));
  EXPECT_FALSE(Takes("one"));
}

TEST_F(TokenGuardTest, FollowsAFileThatIsEditedInPlace) {
  Write(Sha256Hex("one"));
  Open();
  // Twice within the file system's resolution of time, to the same size.
  Write(Sha256Hex("two"));
  Wait(absl::Seconds(1));
  EXPECT_TRUE(Takes("two"));
  Write(Sha256Hex("six"));
  Wait(absl::Seconds(1));
  EXPECT_TRUE(Takes("six"));
  EXPECT_FALSE(Takes("two"));
}

TEST_F(TokenGuardTest, NoticesAChangeOfAFileThatWasStillForLong) {
  Write(Sha256Hex("one"));
  Wait(absl::Hours(1));
  Open();
  Replace(Sha256Hex("two"));
  Wait(absl::Seconds(1));
  EXPECT_FALSE(Takes("one"));
  EXPECT_TRUE(Takes("two"));
}

TEST_F(TokenGuardTest, KeepsTheLastTokensWhileItsFileIsUnusable) {
  Write(Sha256Hex("one"));
  Open();
  for (const char* text : {"kvec_secret in plain text\n", "0123"}) {
    Replace(text);
    Wait(absl::Seconds(1));
    EXPECT_TRUE(Takes("one")) << text;
  }
  std::filesystem::remove(path_);
  Wait(absl::Seconds(1));
  EXPECT_TRUE(Takes("one"));
  Write(Sha256Hex("two"));
  Wait(absl::Seconds(1));
  EXPECT_FALSE(Takes("one"));
  EXPECT_TRUE(Takes("two"));
}

TEST_F(TokenGuardTest, AnEmptiedFileRevokesAll) {
  Write(Sha256Hex("one"));
  Open();
  Replace("");
  Wait(absl::Seconds(1));
  EXPECT_FALSE(Takes("one"));
  EXPECT_FALSE(guard_->Check("Bearer ").ok());
}

TEST_F(TokenGuardTest, OpensNoFileThatIsUnusable) {
  EXPECT_EQ(TokenGuard::OfHashFile(folder_.File("none")).status().code(),
            absl::StatusCode::kNotFound);
  const absl::Status status = TokenGuard::OfHashFile(folder_.Write("tokens", "secret")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("/tokens: line 1: "));
}

TEST_F(TokenGuardTest, ATokenFileHoldsTheTokenItself) {
  path_ = folder_.Write("join", "one\n");
  auto guard = TokenGuard::OfTokenFile(path_, [this] { return now_; });
  ASSERT_TRUE(guard.ok()) << guard.status();
  guard_ = *std::move(guard);
  EXPECT_TRUE(Takes("one"));
  EXPECT_FALSE(Takes(Sha256Hex("one")));
  Replace("two");
  Wait(absl::Seconds(1));
  EXPECT_TRUE(Takes("two"));
  EXPECT_FALSE(Takes("one"));
  // Never no token at all.
  Replace("");
  Wait(absl::Seconds(1));
  EXPECT_FALSE(Takes(""));
  EXPECT_TRUE(Takes("two"));
}

}  // namespace
}  // namespace kvec::security
