#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/client/fake_coordinator.h"
#include "tests/coordinator/client/run_kvec.h"

namespace kvec::coordinator::client {
namespace {

std::vector<std::string> Messages(const v1::GenerateRequest& request) {
  std::vector<std::string> messages;
  for (const v1::ChatMessage& message : request.chat().messages()) {
    messages.push_back(message.role() + ": " + message.content());
  }
  return messages;
}

TEST(ChatCommandTest, KeepsTheHistory) {
  FakeCoordinator coordinator(AnswerWith({"fine, ", "thanks"}));
  const CommandResult result =
      RunKvec({"chat", "--target", coordinator.target(), "--system", "Be kind."},
              "How are you?\n\nSure?\n");
  EXPECT_EQ(result.exit_code, ExitCode::kDone);
  EXPECT_EQ(result.out, "fine, thanks\nfine, thanks\n");
  const auto requests = coordinator.requests();
  ASSERT_EQ(requests.size(), 2);
  EXPECT_THAT(Messages(requests[1]),
              testing::ElementsAre("system: Be kind.", "user: How are you?",
                                   "assistant: fine, thanks", "user: Sure?"));
}

TEST(ChatCommandTest, EndsAPipeAtTheFirstFailure) {
  FakeCoordinator coordinator(
      [](grpc::ServerContext&, const v1::GenerateRequest&, FakeCoordinator::Writer&) {
        return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "chat: no template");
      });
  const CommandResult result = RunKvec({"chat", "--target", coordinator.target()}, "a\nb\n");
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_THAT(result.err, testing::HasSubstr("no template"));
  EXPECT_EQ(coordinator.requests().size(), 1);
}

TEST(ChatCommandTest, GoesOnAfterAFailureOnATerminalAndForgetsTheQuestion) {
  FakeCoordinator coordinator([](grpc::ServerContext&, const v1::GenerateRequest& request,
                                 FakeCoordinator::Writer& writer) {
    const auto& messages = request.chat().messages();
    if (messages[messages.size() - 1].content() == "bad") {
      return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "bad question");
    }
    v1::GenerateResponse message;
    message.set_text("ok");
    writer.Write(message);
    return grpc::Status::OK;
  });
  std::istringstream in("bad\ngood\n");
  std::ostringstream out;
  std::ostringstream err;
  Terminal terminal{in, out, err, /*in_is_tty=*/true};
  EXPECT_EQ(RunCommandLine({"chat", "--target", coordinator.target()}, terminal, nullptr),
            ExitCode::kDone);
  EXPECT_EQ(out.str(), "ok\n");
  EXPECT_THAT(err.str(), testing::HasSubstr("bad question"));
  EXPECT_THAT(Messages(coordinator.requests().at(1)), testing::ElementsAre("user: good"));
}

}  // namespace
}  // namespace kvec::coordinator::client
