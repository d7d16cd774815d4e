#include "tests/worker/comm/thread_group.h"

#include <string>
#include <thread>
#include <utility>

#include "gtest/gtest.h"

namespace kvec::worker::comm {
namespace {

void RunThreads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

ThreadGroup::ThreadGroup(const Shape& shape, const CommEndpoint::Options& options) {
  const int size = shape.num_stages * shape.num_ranks;
  std::vector<std::string> addresses;
  for (int i = 0; i < size; ++i) {
    auto endpoint = CommEndpoint::Create(options);
    if (!endpoint.ok()) {
      ADD_FAILURE() << endpoint.status();
      return;
    }
    addresses.push_back((*endpoint)->address());
    endpoints_.push_back(*std::move(endpoint));
  }
  std::vector<std::unique_ptr<GroupComm>> comms(size);
  RunThreads(size, [&](int i) {
    auto comm = endpoints_[i]->Connect({.epoch = shape.epoch,
                                        .stage = i / shape.num_ranks,
                                        .num_stages = shape.num_stages,
                                        .rank = i % shape.num_ranks,
                                        .num_ranks = shape.num_ranks},
                                       addresses);
    ASSERT_TRUE(comm.ok()) << comm.status();
    comms[i] = *std::move(comm);
  });
  for (const auto& comm : comms) {
    if (comm == nullptr) return;
  }
  comms_ = std::move(comms);
}

void ThreadGroup::Run(const std::function<void(GroupComm&)>& body) {
  RunThreads(size(), [&](int i) { body(*comms_[i]); });
}

}  // namespace kvec::worker::comm
