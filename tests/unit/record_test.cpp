// The values of lock and epoch items: what is written is read again, nothing else is, and all words
// amount to the same holders wherever a log is written anew.
#include "wire/record.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "wire/server_item.hpp"

namespace memcachedlock::detail {
namespace {

using namespace std::chrono_literals;

const std::string start = "mcl2 1795723986";

Entry entry(std::string token, std::string place = "-@host:2:3") {
  Entry made;
  made.token = std::move(token);
  made.lease = 1500ms;
  made.end = 1795723980;
  made.since = 1000ms;
  made.place = std::move(place);
  return made;
}

std::string came(const std::string& token, const std::string& place = "-@host:2:3") {
  std::string word;
  append_entry_word(word, entry(token, place));
  return word;
}

Record read(const std::string& text) {
  const auto record = Record::parse(text);
  EXPECT_TRUE(record) << text;
  return record.value_or(Record());
}

/// Its tokens, the holders' before a bar.
std::string order(const Record& record) {
  std::string text;
  for (std::size_t at = 0; at < record.entries.size(); ++at) {
    if (at == record.holders()) text += '|';
    text += record.entries[at].token;
    if (!record.entries[at].confirmed) text += '*';
    if (record.entries[at].reserved) text += '%';
  }
  return text;
}

std::string order(const std::string& text) { return order(read(text)); }

TEST(Record, IsReadAsItWasWritten) {
  Record record;
  record.expiry = 1795723986;
  record.entries = {entry("t.1"), entry("t.2", "n:owner@host:4:5")};
  record.entries[0].confirmed = true;
  record.entries[1].count = 2;
  record.entries[1].fence = {7, 9};
  record.hold = {30us, 4us, 5};
  EXPECT_EQ(record.encode(),
            "mcl2 1795723986 +t.1:x:1500:1795723980:0:1000:-:-@host:2:3"
            " *t.2:x:1500:1795723980:2:1000:-:n:owner@host:4:5 #t.2:7:9 ~30:4:5");
  const Record found = read(record.encode());
  EXPECT_EQ(found.entries, record.entries);
  EXPECT_EQ(found.expiry, record.expiry);
  EXPECT_EQ(found.hold, record.hold);
  EXPECT_EQ(found.words, 4U);
  EXPECT_EQ(found.dead_words(), 2U);
  EXPECT_EQ(found.entries[1].owner(), "n:owner");
  EXPECT_EQ(found.entries[1].label(), "host:4:5");
  EXPECT_EQ(Record().encode(), "mcl2 0");
  EXPECT_EQ(read("mcl2 0").entries.size(), 0U);
}

TEST(Record, RefusesWhatItNeverWrites) {
  for (const char* const text : {"",
                                 "mcl2",
                                 "mcl2 ",
                                 "mcl2 x",
                                 "mcl2 -1",
                                 "mcl2 1099511627777",
                                 "mcl1 held 1 s 0 - t@p",
                                 "mcl3 1 +t:x:1:1:0:1:-:-@p",
                                 "mcl2 1  +t:x:1:1:0:1:-:-@p",
                                 "mcl2 1 t:x:1:1:0:1:-:-@p",
                                 "mcl2 1 &t:x:1:1:0:1:-:-@p",
                                 "mcl2 1 +:x:1:1:0:1:-:-@p",
                                 "mcl2 1 +t:s:1:1:0:1:-:-@p",
                                 "mcl2 1 +t:4:1:1:0:1:-:-@p",
                                 "mcl2 1 +t:x:2592000001:1:0:1:-:-@p",
                                 "mcl2 1 +t:x:-1:1:0:1:-:-@p",
                                 "mcl2 1 +t:x:1:1099511627777:0:1:-:-@p",
                                 "mcl2 1 +t:x:1:1:-0:1:-:-@p",
                                 "mcl2 1 +t:x:1:1:0:1125899906842625:-:-@p",
                                 "mcl2 1 +t:x:1:1:0:1:-:-",
                                 "mcl2 1 +t:x:1:1:0:1:-:@p",
                                 "mcl2 1 +t:x:1:1:0:1",
                                 "mcl2 1 ?",
                                 "mcl2 1 >t",
                                 "mcl2 1 >t:u",
                                 "mcl2 1 >:u:x:1:1:0:1:-:-@p",
                                 "mcl2 1 -",
                                 "mcl2 1 -t:1",
                                 "mcl2 1 =t",
                                 "mcl2 1 =t:",
                                 "mcl2 1 =t:1:1",
                                 "mcl2 1 =t:1099511627777",
                                 "mcl2 1 !t",
                                 "mcl2 1 !t:x",
                                 "mcl2 1 !t:1:1",
                                 "mcl2 1 !t:18446744073709551616",
                                 "mcl2 1 %t:1",
                                 "mcl2 1 %t:1:1:1",
                                 "mcl2 1 %t:1:1099511627777",
                                 "mcl2 1 #t:0:1",
                                 "mcl2 1 #t:1",
                                 "mcl2 1 #t:1:1:1",
                                 "mcl2 1 ~1",
                                 "mcl2 1 ~0:1:1",
                                 "mcl2 1 ~3600000001:1:1",
                                 "mcl2 1 ~1:3600000001:1",
                                 "mcl2 1 ~1:1:18446744073709551616",
                                 "mcl2 1 ~1:1",
                                 "mcl2 1 ~1:1:1:1"}) {
    EXPECT_FALSE(Record::parse(text)) << text;
  }
  EXPECT_TRUE(
      Record::parse("mcl2 1099511627776 +t:x:2592000000:1099511627776:18446744073709551615:"
                    "1125899906842624:-:-@p ~3600000000:3600000000:18446744073709551615"));
}

TEST(Record, RefusesMoreThanCanBeReadSoon) {
  std::string text = start;
  for (int i = 0; i < 4'000; ++i) text += came("t." + std::to_string(i));
  EXPECT_TRUE(Record::parse(text));
  EXPECT_FALSE(Record::parse(text + came("one more")));
  std::string dead;
  for (int i = 0; i < 4'000; ++i) dead += " -x";
  EXPECT_FALSE(Record::parse(text + dead));
}

// Promise: what an item has room for can be shortened, and so must be read.
TEST(Record, ReadsAsManyWordsOfAFewAsAnItemHolds) {
  std::string text = start + came("a") + came("b");
  for (int i = 0; i < 350'000; ++i) text += " -x";
  EXPECT_EQ(order(text), "a|b*");
}

TEST(Record, KnowsOtherVersions) {
  EXPECT_TRUE(Record::is_of_another_version("mcl1 held 1 s 0 - t@p"));
  EXPECT_TRUE(Record::is_of_another_version("mcl33"));
  EXPECT_FALSE(Record::is_of_another_version("mcl2 x"));
  EXPECT_FALSE(Record::is_of_another_version("mcl"));
  EXPECT_FALSE(Record::is_of_another_version("mclx"));
  EXPECT_FALSE(Record::is_of_another_version(""));
}

TEST(Record, IsHeldByWhoCameFirst) {
  EXPECT_EQ(order(start + came("a")), "a");
  EXPECT_EQ(order(start + came("a") + came("b") + came("c")), "a|b*c*");
  EXPECT_EQ(order(start + came("a") + came("b") + " -a"), "b*");
  EXPECT_EQ(order(start + came("a") + came("b") + " -a =b:5"), "b");
  EXPECT_EQ(order(start + came("a") + came("b") + " -b"), "a");
  EXPECT_EQ(order(start + came("a") + " -a" + came("b")), "b");
  EXPECT_EQ(order(start + came("a") + came("a")), "a");  // a request was sent twice
  EXPECT_EQ(order(start + " -a =a:1 !a:0 %a:0:1 #a:1:1"), "");
}

TEST(Record, RenewalsOnlyLengthenALease) {
  const std::string held = start + came("a");
  EXPECT_EQ(read(held + " =a:1795723999").find("a")->end, 1795723999);
  EXPECT_EQ(read(held + " =a:1795723999 =a:1795723990").find("a")->end, 1795723999);
  EXPECT_EQ(read(held + " =a:1795723999 =a:1795723990").find("a")->count, 2U);
  EXPECT_EQ(read(held + " =a:0").find("a")->end, 0);
  // What a waiter says of its wait is no lease: a confirmation begins one, whatever it is.
  const std::string waits = held + came("b") + " =b:1795723999";
  EXPECT_FALSE(read(waits).find("b")->confirmed);
  EXPECT_EQ(read(waits + " -a =b:7").find("b")->end, 7);
}

TEST(Record, TakesOutOnlyTheCountThatWasSeen) {
  const std::string held = start + came("a") + came("b");
  EXPECT_EQ(order(held + " !a:0"), "b*");
  EXPECT_EQ(order(held + " =a:1795723999 !a:0"), "a|b*");
  EXPECT_EQ(order(held + " =a:1795723999 !a:1"), "b*");
  EXPECT_EQ(order(held + " !b:1 !b:0"), "a");
}

TEST(Record, ReservationsAreTheHolders) {
  const std::string held = start + came("a") + came("b");
  EXPECT_EQ(order(held + " %a:0:9"), "a%|b*");
  EXPECT_EQ(read(held + " %a:0:9").find("a")->end, 9);
  EXPECT_EQ(read(held + " %a:0:9").find("a")->count, 1U);
  EXPECT_EQ(order(held + " %a:1:9"), "a|b*");  // of another count
  EXPECT_EQ(order(held + " %b:0:9"), "a|b*");  // who waits has nothing to keep
  EXPECT_EQ(order(held + " %a:0:9 =a:8"), "a|b*");
  EXPECT_EQ(read(held + " %a:0:9 =a:8").find("a")->end, 8);
  EXPECT_EQ(order(held + " %a:0:9 =a:8 %a:0:9"), "a|b*");  // a late repetition
  EXPECT_EQ(order(held + " %a:0:9 !a:1"), "b*");
  EXPECT_EQ(order(held + " -a %b:0:9"), "b%");  // which confirms it
}

TEST(Record, MembersOfAnOwnerStandTogether) {
  const std::string one = "n:o@h:1:1";
  const std::string held = start + came("a", one) + came("b") + came("c", one);
  EXPECT_EQ(order(held), "ac|b*");
  EXPECT_EQ(order(held + " -a"), "c|b*");
  EXPECT_EQ(order(held + " -a -c"), "b*");
  EXPECT_EQ(order(start + came("x") + came("a", one) + came("b") + came("c", one)), "x|a*c*b*");
  EXPECT_EQ(order(start + came("x") + came("a", one) + came("b") + came("c", one) + " -x =c:1"),
            "a*c|b*");
  // A plain owner is nobody's fellow.
  EXPECT_EQ(order(start + came("a") + came("b")), "a|b*");
}

TEST(Record, MembersShareTheFirstToken) {
  const std::string one = "n:o@h:1:1";
  const std::string held = start + came("a", one) + came("b", one);
  EXPECT_FALSE(read(held).find("a")->fence);
  EXPECT_EQ(read(held + " #b:7:9").find("a")->fence, (FencingToken{7, 9}));
  EXPECT_EQ(read(held + " #b:7:9 #a:7:10").find("a")->fence, (FencingToken{7, 9}));
  EXPECT_EQ(read(held + " #b:7:9 -a -b" + came("c", one)).find("c")->fence, FencingToken{});
  EXPECT_EQ(read(held + " #b:7:9" + came("c", one) + " -a -b").find("c")->fence,
            (FencingToken{7, 9}));
}

TEST(Record, TellsWhetherOneHasLeft) {
  const std::string held = start + came("a") + came("b");
  EXPECT_EQ(Record::left(held + " -a", "a"), true);
  EXPECT_EQ(Record::left(held + " !a:0 -a", "a"), false);
  EXPECT_EQ(Record::left(held, "a"), std::nullopt);
  EXPECT_EQ(Record::left(held + " -a" + came("a") + " -a", "a"), true);
  EXPECT_EQ(Record::left(held + " -ab", "a"), std::nullopt);
}

TEST(Record, AHolderHandsItsPlaceOver) {
  std::string word;
  append_handoff_word(word, "a", entry("c"));
  EXPECT_EQ(word, " >a:c:x:1500:1795723980:0:1000:-:-@host:2:3");
  const std::string held = start + came("a") + " =a:1795723985 #a:1:2" + came("b");
  EXPECT_EQ(order(held + word), "c|b*");
  const Entry after = read(held + word).entries[0];
  EXPECT_EQ(after.count, 0U);
  EXPECT_EQ(after.end, 1795723980);
  EXPECT_FALSE(after.fence);
  // A word about one that is not there, comes twice, or does not hold.
  EXPECT_EQ(order(held + " -a" + word), "b*");
  EXPECT_EQ(order(held + word + word), "c|b*");
  EXPECT_EQ(order(held + word + " -c" + word), "b*");
  EXPECT_EQ(order(start + came("b") + came("a") + word), "b|a*");
  EXPECT_EQ(order(held + came("c") + word), "a|b*c*");
  // Members of a named owner hold by each other's places.
  std::string named;
  append_handoff_word(named, "a", entry("c", "n:o@host:2:3"));
  EXPECT_EQ(order(held + named), "a|b*");
  EXPECT_EQ(order(start + came("a", "n:o@host:2:3") + word), "a");
}

TEST(Record, KnowsItsEntries) {
  Record record = read(start + came("a") + came("b") + came("c"));
  EXPECT_TRUE(record.holds("a"));
  EXPECT_FALSE(record.holds("b") || record.holds("x"));
  EXPECT_EQ(record.queue_position("c"), 1U);
  EXPECT_FALSE(record.queue_position("a") || record.queue_position("x"));
  EXPECT_EQ(record.waiters(), 2U);
  EXPECT_TRUE(record.includes("b"));
  record.remove("b");
  EXPECT_FALSE(record.includes("b"));
  EXPECT_TRUE(record.find("a")->has_ended(1795723980));
  EXPECT_FALSE(record.find("a")->has_ended(1795723979));
  record.find("a")->end = 0;
  EXPECT_FALSE(record.find("a")->has_ended(1795723980));
}

/// Words about few tokens, in any order, as they may come.
std::vector<std::string> random_words(std::minstd_rand& random, std::size_t count) {
  const auto pick = [&](unsigned most) { return random() % most; };
  const std::string places[] = {"-@h:1:1", "n:o@h:1:1", "n:p@h:2:2"};
  std::vector<std::string> words;
  for (std::size_t at = 0; at < count; ++at) {
    const auto who = pick(5);
    const std::string token = "t." + std::to_string(who);
    std::string word;
    switch (pick(9)) {
      case 0:
      case 1:
      case 2:  // a token is of one owner
        word = came(token, places[who % 3]);
        break;
      case 3:
        append_lease_word(word, token, static_cast<std::int64_t>(pick(9)));
        break;
      case 4:
        append_leave_word(word, token);
        break;
      case 5:
        append_removal_word(word, token, pick(4));
        break;
      case 6:
        append_reserve_word(word, token, pick(4), static_cast<std::int64_t>(pick(9)));
        break;
      case 7:
        append_handoff_word(word, token, entry("t." + std::to_string(pick(5)), places[pick(2)]));
        break;
      default:
        append_fence_word(word, token, {1, 1 + pick(9)});
    }
    words.push_back(word);
  }
  return words;
}

std::string joined(const std::vector<std::string>& words, std::size_t from, std::size_t to) {
  std::string text;
  for (std::size_t at = from; at < to; ++at) text += words[at];
  return text;
}

// Whoever writes a log anew, at whatever moment, changes nothing, now or later.
TEST(Record, MeansTheSameWhereverItIsWrittenAnew) {
  std::minstd_rand random(1);
  for (int round = 0; round < 3'000; ++round) {
    const auto words = random_words(random, 24);
    const auto cut = random() % words.size();
    const auto again = cut + random() % (words.size() - cut);
    const Record whole = read(start + joined(words, 0, words.size()));
    std::string text = read(start + joined(words, 0, cut)).encode() + joined(words, cut, again);
    text = read(text).encode() + joined(words, again, words.size());
    ASSERT_EQ(read(text).entries, whole.entries)
        << joined(words, 0, cut) << "\n/" << joined(words, cut, again) << "\n/"
        << joined(words, again, words.size());
  }
}

// Who holds the lock goes on holding it, whatever others write.
TEST(Record, NoWordOfAnotherEndsAHolding) {
  std::minstd_rand random(2);
  for (int round = 0; round < 3'000; ++round) {
    const auto words = random_words(random, 24);
    std::string text = start;
    Record before = read(text);
    for (const std::string& word : words) {
      text += word;
      const Record after = read(text);
      for (std::size_t at = 0; at < before.holders(); ++at) {
        const std::string& token = before.entries[at].token;
        if (after.holds(token)) continue;
        const bool own = word == " -" + token || word.starts_with(" !" + token + ":") ||
                         word.starts_with(" >" + token + ":");
        ASSERT_TRUE(own) << text;
      }
      before = after;
    }
  }
}

// Nobody gets in beside or before a holder of another owner, and all keep their places.
TEST(Record, HoldersAreOneOrOfOneOwner) {
  std::minstd_rand random(3);
  for (int round = 0; round < 3'000; ++round) {
    const auto words = random_words(random, 24);
    std::string text = start;
    for (const std::string& word : words) {
      text += word;
      const Record record = read(text);
      for (std::size_t at = 1; at < record.holders(); ++at) {
        ASSERT_EQ(record.entries[at].owner(), record.entries[0].owner()) << text;
        ASSERT_NE(record.entries[at].owner(), "-") << text;
      }
      for (std::size_t at = record.holders(); at < record.entries.size(); ++at) {
        ASSERT_FALSE(record.entries[at].confirmed || record.entries[at].reserved) << text;
      }
    }
  }
}

ServerItem item_of(MarkedList list) {
  return {.id = 0xabc, .number = 17, .max_lease = 30s, .made = 99, .list = std::move(list)};
}

TEST(ServerItem, IsReadAsItWasWritten) {
  ServerItem item = item_of({"a:1,b:2", "b:2"});
  EXPECT_EQ(item.encode(), "mcl-server1 0000000000000abc 17 30000 99 a:1,*b:2");
  EXPECT_EQ(ServerItem::parse(item.encode()), item);
  item.list.self.clear();
  item.confirmed = false;
  EXPECT_EQ(item.encode(), "mcl-server1 0000000000000abc 17 30000 99 ?a:1,b:2");
  EXPECT_EQ(ServerItem::parse(item.encode()), item);
  item.confirmed = true;
  item.next = MarkedList{"a:1", "a:1"};
  item.floor = 18;
  EXPECT_EQ(item.encode(), "mcl-server1 0000000000000abc 17 30000 99 a:1,b:2>*a:1@18");
  EXPECT_EQ(ServerItem::parse(item.encode()), item);
  EXPECT_EQ(item.lists(), "a:1,b:2 > a:1");
}

TEST(ServerItem, TakesWhateverAPathMayBe) {
  const ServerItem item =
      item_of({"/tmp/a b?*>@%\x01\xff,[fe80::1%eth0]:1", "/tmp/a b?*>@%\x01\xff"});
  EXPECT_EQ(item.encode().find_first_of("\x01\xff"), std::string::npos);
  EXPECT_EQ(ServerItem::parse(item.encode()), item);
}

TEST(ServerItem, RefusesWhatItWouldNotWrite) {
  const std::string most(ServerItem::max_list + 1, 'a');
  EXPECT_TRUE(ServerItem::parse("mcl-server1 abc 17 30000 9 *a:1"));
  for (const std::string& text : {std::string(),
                                  std::string("mcl-server2 abc 17 30000 9 *a:1"),
                                  std::string("mcl-server1 abc 17 30000 9"),
                                  std::string("mcl-server1 0 17 30000 9 *a:1"),
                                  std::string("mcl-server1 xyz 17 30000 9 *a:1"),
                                  std::string("mcl-server1 abcx 17 30000 9 *a:1"),
                                  std::string("mcl-server1 abc 0 30000 9 *a:1"),
                                  std::string("mcl-server1 abc x 30000 9 *a:1"),
                                  std::string("mcl-server1 abc 9223372036854775807 30000 9 *a:1"),
                                  std::string("mcl-server1 abc 17 2592000001 9 *a:1"),
                                  std::string("mcl-server1 abc 17 30000 9 *a:1 x"),
                                  std::string("mcl-server1 abc 17 30000 -9 *a:1"),
                                  std::string("mcl-server1 abc 17 30000 1099511627777 *a:1"),
                                  std::string("mcl-server1 1ffffffffffffffff 17 30000 9 *a:1"),
                                  std::string("mcl-server1 abc 17 30000 9 *a:1,*b:1"),
                                  std::string("mcl-server1 abc 17 30000 9 *a:1,"),
                                  std::string("mcl-server1 abc 17 30000 9 *a%41:1"),
                                  std::string("mcl-server1 abc 17 30000 9 *a%4"),
                                  std::string("mcl-server1 abc 17 30000 9 *a:1>b:1"),
                                  std::string("mcl-server1 abc 17 30000 9 *a:1>b:1@"),
                                  std::string("mcl-server1 abc 17 30000 9 *a:1>b:1@0"),
                                  std::string("mcl-server1 abc 17 30000 9 ?*a:1>b:1@2"),
                                  std::string("mcl-server1 abc 17 30000 9 *a:1>@2"),
                                  "mcl-server1 abc 17 30000 9 " + most}) {
    EXPECT_FALSE(ServerItem::parse(text)) << text;
  }
}

}  // namespace
}  // namespace memcachedlock::detail
