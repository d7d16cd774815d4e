#include "coordinator/client/child_process.h"

#include <signal.h>

#include <cstdlib>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::client {
namespace {

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

std::unique_ptr<ChildProcess> Shell(const std::string& script) {
  auto process = ChildProcess::Start({"/bin/sh", "-c", script});
  EXPECT_TRUE(process.ok()) << process.status();
  return *std::move(process);
}

TEST(ChildProcessTest, ReadsLines) {
  const auto process = Shell("printf 'one\\ntwo\\n'; exec sleep 1000");
  EXPECT_EQ(process->ReadLine(Soon()).value(), "one");
  EXPECT_EQ(process->ReadLine(Soon()).value(), "two");
  EXPECT_FALSE(process->HasExited());
}

TEST(ChildProcessTest, ReportsWhatAProcessWroteBeforeItEnded) {
  const auto process = Shell("echo bad model >&2; exit 1");
  const auto line = process->ReadLine(Soon());
  EXPECT_EQ(line.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(line.status().message()), testing::HasSubstr("bad model"));
}

TEST(ChildProcessTest, ReportsAMissingProgram) {
  const auto process = ChildProcess::Start({"/nonexistent/program"});
  ASSERT_TRUE(process.ok());
  EXPECT_THAT(std::string((*process)->ReadLine(Soon()).status().message()),
              testing::HasSubstr("No such file"));
}

TEST(ChildProcessTest, StopsWaitingAtTheDeadline) {
  const auto process = Shell("exec sleep 1000");
  EXPECT_EQ(process->ReadLine(absl::Now()).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(ChildProcessTest, EndsTheProcessWithItself) {
  auto process = Shell("echo $$; exec sleep 1000");
  const pid_t pid = std::atoi(process->ReadLine(Soon()).value().c_str());
  ASSERT_EQ(kill(pid, 0), 0);
  process.reset();
  EXPECT_NE(kill(pid, 0), 0);
}

TEST(ChildProcessTest, LeavesSignalsUnblockedInTheChild) {
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &interrupt, nullptr);
  const auto process = Shell("grep SigBlk /proc/self/status");
  EXPECT_EQ(process->ReadLine(Soon()).value(), "SigBlk:\t0000000000000000");
  pthread_sigmask(SIG_UNBLOCK, &interrupt, nullptr);
}

}  // namespace
}  // namespace kvec::coordinator::client
